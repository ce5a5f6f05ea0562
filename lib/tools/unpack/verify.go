package unpack

import (
	"errors"
	"flag"
	"fmt"
	"sync"
	"time"

	"preserve/lib/page"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// stall is how long nothing may arrive: a stage that is alive sends a tick every
// ten seconds.
const stall = 15 * time.Minute

// verifying is what the user said of --verify.
type verifying struct{ badIDs bool }

func (v *verifying) flags(fs *flag.FlagSet) { fs.BoolVar(&v.badIDs, "bad-ids", false, "") }

func (v *verifying) check(m *mode) error {
	if v.badIDs && m.flag != "verify" {
		return tool.Usagef("--bad-ids goes with --verify")
	}
	return nil
}

// verify opens and checks everything and writes nothing. What is missing or does
// not open is named, and the rest is checked all the same.
func verify(env *tool.Env, o options, src source, b base) error {
	v := &verifier{base: b, print: o.verify.badIDs}
	err := src.walk(walk.Options{Want: o.want, Partial: o.partial, Choose: b.choose.chooser()}, v)
	if err != nil || v.wrong {
		return err
	}
	verdict := "is whole"
	if env.Warned() {
		verdict = "is as it was stored, but for what is named here"
	}
	entries, bytes := v.snap.Entries, v.snap.Bytes
	if b.choose.picks() {
		verdict = "(a part of it) " + verdict
		entries, bytes = v.entries, v.bytes
	}
	if v.snap.Partial {
		verdict = "(a checkpoint: a part of a tree) " + verdict
	}
	verdict = fmt.Sprintf("%s %s: %d entries, %d bytes", v.id, verdict, entries, bytes)
	if o.verify.badIDs { // stdout is for ids
		env.Notice("%s", verdict)
		return nil
	}
	_, err = fmt.Fprintln(env.Stdout, verdict)
	return err
}

type verifier struct {
	base
	print bool // the ids of what is wrong

	entries, bytes uint64 // that came

	mu    sync.Mutex
	wrong bool // something that was stored is not there
}

// tell prints the id of a blob that cannot be had.
func (v *verifier) tell(l walk.Loss) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrong = true
	if !v.print {
		return nil
	}
	_, err := fmt.Fprintln(v.env.Stdout, l.ID)
	return err
}

func (v *verifier) Gap(first page.Key, next *page.Key, l walk.Loss) error {
	if err := v.base.Gap(first, next, l); err != nil || errors.Is(l.Why, walk.ErrPartial) {
		return err
	}
	return v.tell(l)
}

func (v *verifier) Page(p *walk.Page) error {
	for _, e := range p.Entries {
		if e.Off == 0 {
			v.entries++
		}
		n, _ := e.ContentLen() // the walk has judged it
		v.bytes += n
		v.flawed(e)
	}
	return nil
}

func (v *verifier) Data(*walk.Page, int, []byte) error { return nil }

func (v *verifier) Missing(p *walk.Page, ref int, l walk.Loss) error {
	v.env.Warn("data blob %s %s; it belongs to %s", l.ID.Short(), l, lostFiles(p, ref))
	return v.tell(l)
}
