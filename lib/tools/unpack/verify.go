package unpack

import (
	"fmt"
	"time"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// stall is how long nothing may arrive: a stage that is alive sends a tick every
// ten seconds.
const stall = 15 * time.Minute

// verify opens and checks everything and writes nothing.
func verify(env *tool.Env, o options, in *rec.Reader, open *box.Opener, b base) error {
	v := &verifier{base: b}
	if err := walk.Run(in, open, walk.Options{Want: o.want}, v); err != nil {
		return err
	}
	if env.Warned() {
		return nil
	}
	_, err := fmt.Fprintf(env.Stdout, "%s is whole: %d entries, %d bytes\n", v.id, v.snap.Entries, v.snap.Bytes)
	return err
}

type verifier struct{ base }

func (v *verifier) Page(p *walk.Page) error {
	for _, e := range p.Entries {
		switch {
		case e.Err != "":
			v.env.Notice("%s: was stored without content: %s", rec.Quote(e.Path), e.Err)
		case e.Inconsistent:
			v.env.Notice("%s: changed while it was backed up", rec.Quote(e.Path))
		}
	}
	return nil
}

func (v *verifier) Data(*walk.Page, int, []byte) error { return nil }

func (v *verifier) Missing(p *walk.Page, ref int, i id.ID) error {
	v.env.Warn("data blob %s is missing in the repository; it belongs to %s", i.Short(), lostFiles(p, ref))
	return nil
}
