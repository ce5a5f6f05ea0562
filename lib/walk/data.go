package walk

import (
	"bytes"
	"fmt"

	"preserve/lib/content"
	"preserve/lib/rec"
)

// emit gives a page to the sink and asks for its data.
func (d *drive) emit(entries []*rec.Entry, refs []byte) error {
	p := content.NewPage(entries, refs)
	if err := d.sink.Page(p); err != nil || d.o.MetaOnly {
		return err
	}
	l := &burden{weight: weigh(p.Entries) + int64(len(refs))}
	for _, uses := range p.Uses {
		if len(uses) > 0 {
			l.due++
		}
	}
	if l.due == 0 {
		return nil
	}
	d.ask.mu.Lock()
	d.load[p] = l
	d.weight += l.weight
	d.ask.mu.Unlock()
	for ref, uses := range p.Uses {
		if len(uses) > 0 {
			if err := d.need(use{p, ref}); err != nil {
				return err
			}
		}
	}
	return d.wait(func() bool {
		return len(d.ask.data) <= maxFlight && (d.weight <= maxWaiting || len(d.load) == 0)
	})
}

// weigh estimates the memory of entries.
func weigh(entries []*rec.Entry) (n int64) {
	for _, e := range entries {
		n += int64(512 + 2*len(e.Path) + 128*len(e.Extents))
		for _, x := range e.XAttrs {
			n += int64(len(x.Name) + len(x.Value))
		}
		for _, name := range e.Omitted {
			n += int64(len(name) + 16)
		}
	}
	return n
}

// need sees to it that a blob comes: at once, if it is kept.
func (d *drive) need(u use) error {
	a := d.ask
	i := u.page.Refs[u.ref]
	if size, done := d.o.Checked.get(i); done {
		err := u.page.Fits(u.ref, size)
		a.mu.Lock()
		d.settle(&want{uses: []use{u}})
		a.mu.Unlock()
		return err
	}
	a.mu.Lock()
	plain, kept := d.plain.get(i)
	w := d.wanted[i]
	switch {
	case kept:
	case w != nil:
		w.uses = append(w.uses, u)
	default:
		w = &want{id: i, low: rec.KindData, high: rec.KindData, uses: []use{u}}
		d.wanted[i] = w
		a.ask(w)
	}
	a.mu.Unlock()
	if !kept {
		return nil
	}
	err := u.page.Give(d.sink, u.ref, plain)
	a.mu.Lock()
	d.settle(&want{uses: []use{u}})
	a.mu.Unlock()
	return err
}

// openData opens a data blob and gives it to all who wait for it. It is called
// by several goroutines.
func (d *drive) openData(t *arrival) (*arrival, error) {
	err := d.bring(t)
	if err != nil {
		d.ask.fail(err)
	}
	return t, err
}

func (d *drive) bring(t *arrival) error {
	defer t.blob.Free()
	buf, ok := d.bufs.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	plain, err := d.open.Open((*buf)[:0], rec.KindData, t.blob.ID, t.blob.SID, nil, t.blob.Data)
	if isLoss(err) {
		d.ask.mu.Lock()
		d.ask.refuse(t.want, err)
		d.ask.mu.Unlock()
		return nil
	}
	if err != nil {
		d.ask.mu.Lock()
		u := t.want.uses[0]
		d.ask.mu.Unlock()
		return fmt.Errorf("data blob %s of %s: %w", t.blob.ID.Short(), u.page.Where(u.ref), err)
	}
	d.o.Checked.add(t.blob.ID, len(plain))
	kept := bytes.Clone(plain)
	d.ask.mu.Lock()
	d.plain.put(t.blob.ID, kept, int64(len(kept)))
	delete(d.wanted, t.blob.ID)
	uses := t.want.uses // nobody adds to them any more
	d.ask.mu.Unlock()
	for _, u := range uses {
		if err := u.page.Give(d.sink, u.ref, plain); err != nil {
			return err
		}
	}
	*buf = plain
	d.bufs.Put(buf)
	d.ask.mu.Lock()
	d.settle(t.want)
	d.ask.mu.Unlock()
	return nil
}

// missing tells of a data blob that cannot be had.
func (d *drive) missing(w *want) error {
	for _, u := range w.uses {
		if err := d.sink.Missing(u.page, u.ref, Loss{ID: w.id, Why: w.why}); err != nil {
			return err
		}
	}
	return nil
}

// settle ends the uses of a want. With d.ask.mu held.
func (d *drive) settle(w *want) {
	for _, u := range w.uses {
		l := d.load[u.page]
		if l.due--; l.due == 0 {
			delete(d.load, u.page)
			d.weight -= l.weight
		}
	}
	d.ask.changed.Broadcast()
}
