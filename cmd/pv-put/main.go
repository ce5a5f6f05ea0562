// Command pv-put is described in docs/man/pv-put.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/put"
)

func main() { tool.Main("pv-put", put.Run) }
