// Command pv-open is described in docs/man/pv-open.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/open"
)

func main() { tool.Main("pv-open", open.Run) }
