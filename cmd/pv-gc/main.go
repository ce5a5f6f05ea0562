// Command pv-gc is described in docs/man/pv-gc.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/gc"
)

func main() { tool.Main("pv-gc", gc.Run) }
