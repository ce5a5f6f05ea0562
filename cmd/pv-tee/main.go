// Command pv-tee is described in docs/man/pv-tee.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/tee"
)

func main() { tool.Main("pv-tee", tee.Run) }
