package unpack

import (
	"fmt"
	"time"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// stall is how long nothing may arrive: a stage that is alive sends a tick every
// ten seconds.
const stall = 15 * time.Minute

// verify opens and checks everything and writes nothing.
func verify(env *tool.Env, o options, src source, b base) error {
	v := &verifier{base: b}
	if err := src.walk(walk.Options{Want: o.want, Choose: b.choose.chooser()}, v); err != nil {
		return err
	}
	verdict := "is whole"
	if v.missing {
		return nil
	}
	if env.Warned() {
		verdict = "is as it was stored, but for what is named here"
	}
	entries, bytes := v.snap.Entries, v.snap.Bytes
	if b.choose.picks() {
		verdict = "(a part of it) " + verdict
		entries, bytes = v.entries, v.bytes
	}
	_, err := fmt.Fprintf(env.Stdout, "%s %s: %d entries, %d bytes\n", v.id, verdict, entries, bytes)
	return err
}

type verifier struct {
	base
	missing bool // something that was stored is not there

	entries, bytes uint64 // that came
}

func (v *verifier) Gap(first page.Key, next *page.Key, i id.ID) error {
	v.missing = true
	return v.base.Gap(first, next, i)
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

func (v *verifier) Missing(p *walk.Page, ref int, i id.ID) error {
	v.missing = true
	v.env.Warn("data blob %s is missing in the repository; it belongs to %s", i.Short(), lostFiles(p, ref))
	return nil
}
