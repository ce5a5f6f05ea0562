// Command pv-chunk is described in docs/man/pv-chunk.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/chunk"
)

func main() { tool.Main("pv-chunk", chunk.Run) }
