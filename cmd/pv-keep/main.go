// Command pv-keep is described in docs/man/pv-keep.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/keep"
)

func main() { tool.Main("pv-keep", keep.Run) }
