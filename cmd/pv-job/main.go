// Command pv-job is described in docs/man/pv-job.md.
package main

import (
	"preserve/lib/tool"
	"preserve/lib/tools/job"
)

func main() { tool.Main("pv-job", job.Run) }
