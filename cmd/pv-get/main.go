// Command pv-get is described in docs/man/pv-get.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/get"
)

func main() { tool.Main("pv-get", get.Run) }
