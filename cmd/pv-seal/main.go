// Command pv-seal is described in docs/man/pv-seal.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/seal"
)

func main() { tool.Main("pv-seal", seal.Run) }
