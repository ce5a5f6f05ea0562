// Command pv-unpack is described in docs/man/pv-unpack.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/unpack"
)

func main() { tool.Main("pv-unpack", unpack.Run) }
