package diff

import (
	"bufio"
	"slices"
	"strings"

	"preserve/lib/rec"
	"preserve/lib/tool"
)

// A printer prints differences.
type printer struct {
	env    *tool.Env
	out    *bufio.Writer
	turned bool // what is compared first is the second on the command line
}

func newPrinter(env *tool.Env, turned bool) *printer {
	return &printer{env, bufio.NewWriter(env.Stdout), turned}
}

// differs prints a difference: what, the path, and what more there is to say, first of the
// first.
func (p *printer) differs(what, path string, more ...string) {
	p.env.SetWarned()
	if path == "" {
		path = "."
	}
	if p.turned {
		more = slices.Clone(more)
		switch n := len(more); {
		case what == "missing":
			what = "extra"
		case what == "extra":
			what = "missing"
		case n > 1 && what != "xattrs":
			more[n-2], more[n-1] = more[n-1], more[n-2]
		case n > 0 && more[n-1] == "missing":
			more[n-1] = "extra"
		case n > 0 && more[n-1] == "extra":
			more[n-1] = "missing"
		}
	}
	line := append([]string{what, rec.Quote(path)}, more...)
	_, _ = p.out.WriteString(strings.Join(line, "\t") + "\n") // end tells
}

// end writes what is left; err is how the comparison ended.
func (p *printer) end(err error) error {
	if ferr := p.out.Flush(); err == nil {
		err = ferr
	}
	return err
}
