package tool

import (
	"flag"
	"time"
)

// Duration is a flag that takes what ParseDuration reads.
func Duration(fs *flag.FlagSet, name string, value time.Duration) *time.Duration {
	d := &value
	fs.Func(name, "", func(s string) (err error) {
		*d, err = ParseDuration(s)
		return err
	})
	return d
}
