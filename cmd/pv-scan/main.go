// Command pv-scan is described in docs/man/pv-scan.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/scan"
)

func main() { tool.Main("pv-scan", scan.Run) }
