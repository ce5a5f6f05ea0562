package open

import (
	"errors"
	"fmt"
	"sync"

	"preserve/lib/content"
	"preserve/lib/page"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/unseal"
)

// checkAll checks several snapshots. One that cannot be opened is named, and the others are checked all
// the same.
func checkAll(env *tool.Env, o *options, src *unseal.Source) error {
	bad := 0
	for _, want := range o.seal.Wants {
		choose, err := reading.NewChooser(env, o.mode(), &o.choice)
		if err == nil {
			err = src.Next(want, choose)
		}
		if err == nil {
			err = check(reading.Base{Env: env, Choose: choose}, src, o.badIDs)
		}
		if err != nil {
			env.Say("snapshot %s could not be checked", want)
			env.Status(err) // prints it
			bad++
		}
	}
	switch {
	case bad == len(o.seal.Wants):
		return tool.ErrTold
	case bad > 0:
		env.SetWarned()
	}
	return nil
}

// check opens and checks everything and writes nothing. What is missing or does
// not open is named, and the rest is checked all the same.
func check(b reading.Base, src reading.Source, ids bool) error {
	v := &verifier{Base: b, print: ids}
	before := b.Env.Warned() // of another snapshot
	err := src.Walk(false, b.Choose.Active(), v)
	if err != nil {
		return err
	}
	b.Choose.End()
	if v.wrong {
		return nil
	}
	verdict := "is whole"
	if v.flawed || b.Env.Warned() && !before {
		verdict = "is as it was stored, but for what is named here"
	}
	entries, bytes := v.Snap.Entries, v.Snap.Bytes
	if b.Choose.Picks() {
		verdict = "(a part of it) " + verdict
		entries, bytes = v.entries, v.bytes
	}
	if v.Snap.Partial {
		verdict = "(a checkpoint: a part of a tree) " + verdict
	}
	verdict = fmt.Sprintf("%s %s: %d entries, %d bytes", v.ID, verdict, entries, bytes)
	if ids { // stdout is for ids
		b.Env.Notice("%s", verdict)
		return nil
	}
	_, err = fmt.Fprintln(b.Env.Stdout, verdict)
	return err
}

type verifier struct {
	reading.Base
	print bool // the ids of what is wrong

	entries, bytes uint64 // that came
	flawed         bool   // something was not stored as it was

	mu    sync.Mutex
	wrong bool // something that was stored is not there
}

// tell prints the id of a blob that cannot be had.
func (v *verifier) tell(l content.Loss) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.wrong = true
	if !v.print {
		return nil
	}
	_, err := fmt.Fprintln(v.Env.Stdout, l.ID)
	return err
}

func (v *verifier) Gap(first page.Key, next *page.Key, l content.Loss) error {
	if err := v.Base.Gap(first, next, l); err != nil || errors.Is(l.Why, content.ErrPartial) {
		return err
	}
	return v.tell(l)
}

func (v *verifier) Page(p *content.Page) error {
	for _, e := range p.Entries {
		if e.Off == 0 {
			v.entries++
		}
		n, _ := e.ContentLen() // the walk has judged it
		v.bytes += n
		v.flawed = v.flawed || e.Err != "" || e.Inconsistent
		v.Flawed(e)
	}
	return nil
}

func (v *verifier) Orphan(e *rec.Entry) error {
	v.flawed = true
	return v.Base.Orphan(e)
}

func (v *verifier) End(e *rec.End) error {
	v.flawed = v.flawed || e.Status != 0
	return v.Base.End(e)
}

func (v *verifier) Data(*content.Page, int, []byte) error { return nil }

func (v *verifier) Missing(p *content.Page, ref int, l content.Loss) error {
	v.Env.Warn("data blob %s %s; it belongs to %s", l.ID.Short(), l, reading.LostFiles(p, ref))
	return v.tell(l)
}
