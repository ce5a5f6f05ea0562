// Command pv-tar is described in docs/man/pv-tar.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/tar"
)

func main() { tool.Main("pv-tar", tar.Run) }
