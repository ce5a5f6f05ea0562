// Command pv-serve is described in docs/man/pv-serve.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/serve"
)

func main() { tool.Main("pv-serve", serve.Run) }
