// Command pv-join is described in docs/man/pv-join.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/join"
)

func main() { tool.Main("pv-join", join.Run) }
