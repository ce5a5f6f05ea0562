// Command pv-diff is described in docs/man/pv-diff.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/diff"
)

func main() { tool.Main("pv-diff", diff.Run) }
