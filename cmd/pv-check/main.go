// Command pv-check is described in docs/man/pv-check.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/check"
)

func main() { tool.Main("pv-check", check.Run) }
