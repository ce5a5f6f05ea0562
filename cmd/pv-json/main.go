// Command pv-json is described in docs/man/pv-json.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/json"
)

func main() { tool.Main("pv-json", json.Run) }
