// Command pv-key is described in docs/man/pv-key.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/key"
)

func main() { tool.Main("pv-key", key.Run) }
