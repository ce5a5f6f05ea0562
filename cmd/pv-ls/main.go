// Command pv-ls is described in docs/man/pv-ls.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/ls"
)

func main() { tool.Main("pv-ls", ls.Run) }
