package store

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"preserve/lib/id"
	"preserve/lib/objects"
	"preserve/lib/pack"
	"preserve/lib/rec"
)

const (
	packTarget = 64 << 20 // bytes of a pack, about
	// syncing is how many packs may be on their way to the disk while the next
	// are written.
	syncing = 2
	// push is after how many bytes the system is told to begin writing.
	push = 8 << 20
)

// An open pack is being written.
type openPack struct {
	f      objects.Temp
	w      *pack.Writer
	pushed int64
	broken bool
	// age is that of the oldest blob in it that a collector moved there, in nanoseconds; 0 for
	// none.
	age int64
}

// append stores a blob in the open pack of its class, data or metadata.
func (p *Put) append(b *rec.Blob) error {
	at := &p.open[0]
	if b.Kind != rec.KindData {
		at = &p.open[1]
	}
	if err := p.checkRoom(sizeIn(*at, b)); err != nil {
		return err
	}
	if *at == nil {
		o, err := p.newPack()
		if err != nil {
			return err
		}
		*at = o
	}
	o := *at
	before := len(o.w.Entries())
	err := o.w.Session(p.sessions[b.SID])
	if err == nil {
		err = o.w.Blob(b)
	}
	if err != nil {
		// After a failed write nothing is retried on the file.
		o.broken = true
		return p.spaceError(fmt.Errorf("write a pack: %w", err))
	}
	p.Count.New++
	p.Count.NewBytes += uint64(len(b.Data))
	p.pendingRows++
	p.owed += int64(len(o.w.Entries())-before) * rowCost
	n := o.w.Size()
	if n-o.pushed >= push {
		// A hint to begin writing, so that the sync at the end is short.
		// Whatever goes wrong comes back from the sync.
		o.f.Begin(o.pushed, n-o.pushed)
		o.pushed = n
	}
	if n >= packTarget || len(o.w.Entries()) >= pack.MaxEntries-2 {
		*at = nil
		return p.finish(o)
	}
	return nil
}

func (p *Put) newPack() (*openPack, error) {
	if err := p.logBegin(); err != nil {
		return nil, err
	}
	f, err := p.w.Create()
	if err != nil {
		return nil, p.spaceError(err)
	}
	var nonce [rec.NonceSize]byte
	_, err = rand.Read(nonce[:])
	o := &openPack{f: f}
	if err == nil {
		o.w, err = pack.NewWriter(f, nonce)
	}
	if err != nil {
		p.drop(o)
		return nil, p.spaceError(err)
	}
	p.owed += packCost
	if p.journal != nil {
		p.owed += eventPack
	}
	return o, nil
}

// drop gives up a pack.
func (p *Put) drop(o *openPack) {
	p.w.Drop(o.f)
}

// finish ends a pack and lets it become durable in the background.
func (p *Put) finish(o *openPack) error {
	name, err := o.w.Close()
	if err != nil {
		p.drop(o)
		return p.spaceError(fmt.Errorf("write a pack: %w", err))
	}
	p.slots <- struct{}{} // waits while there are enough on their way
	p.background.Go(func() {
		err := p.settle(o, name)
		<-p.slots
		p.mu.Lock()
		defer p.mu.Unlock()
		if err != nil && p.failed == nil {
			p.failed = p.spaceError(fmt.Errorf("write pack %s: %w", name, err))
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// settle makes a pack durable under its final name. It has no time yet.
func (p *Put) settle(o *openPack, name id.ID) error {
	defer p.w.Drop(o.f) // if it is there still
	// What a collector moved has the time that it had: copies in other packs do not come before it.
	err := error(nil)
	if o.age != 0 {
		err = o.f.Dated(time.Unix(0, o.age))
	} else {
		err = o.f.Undated()
	}
	if err != nil {
		return err
	}
	if err := p.w.Publish(o.f, packName(name)); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = append(p.settled, pack.List{Pack: pack.Pack{Name: name, Size: uint64(o.w.Size())}, Entries: o.w.Entries()})
	return nil
}

// barrier makes all that was appended durable and lists it in one segment.
// After an error no more can be appended, and only what is durable may still
// be listed by Keep.
func (p *Put) barrier() error {
	for i, o := range p.open {
		p.open[i] = nil
		if o == nil {
			continue
		}
		if err := p.finish(o); err != nil {
			return err
		}
	}
	p.background.Wait()
	if p.failed != nil {
		return p.failed
	}
	return p.publish()
}

// notice takes into the view what others have listed since it was read, and returns
// the packs.
func (p *Put) notice() (fresh id.Set, err error) {
	names, err := p.r.names("index")
	if err != nil {
		return fresh, err
	}
	v := p.view
	packs, large := len(v.packs), len(v.large)
	for _, name := range names {
		if v.names[name] {
			continue
		}
		if err := p.r.loadNamed(v, name); err != nil {
			return fresh, err
		}
	}
	for _, name := range v.packs[packs:] {
		fresh.Add(name)
	}
	for _, s := range v.large[large:] {
		for _, p := range s.Packs() {
			fresh.Add(p.Name)
		}
	}
	if len(v.packs) > packs {
		slices.SortFunc(v.rows, compareRows)
	}
	return fresh, nil
}

// segment makes the segment that lists packs, but for what others have listed since the view was read,
// and writes into the log that it is about to be written.
func (p *Put) segment(lists []pack.List) (data []byte, name id.ID, err error) {
	fresh, err := p.notice()
	if err != nil {
		return nil, name, err
	}
	for k := range lists {
		if lists[k], err = p.r.novel(p.view, lists[k], fresh.Has); err != nil {
			return nil, name, err
		}
	}
	if data, name, err = pack.EncodeSegment(lists); err == nil && name != p.logged {
		p.logged = name
		err = p.logLists(eventStore, name, lists)
	}
	return data, name, err
}

// publish lists the packs that have settled. What others have listed meanwhile is not
// listed once more.
func (p *Put) publish() error {
	p.mu.Lock()
	lists := p.settled
	p.settled = nil
	p.mu.Unlock()
	if err := p.w.Sync(); err != nil {
		return err
	}
	p.mark()
	if len(lists) == 0 {
		return nil
	}
	if _, _, err := p.segment(lists); err != nil { // for the log: it is written before anything has a time
		return err
	}
	if err := p.date(lists); err != nil {
		return err
	}
	// That may have taken long, and the packs are older now than what others have listed meanwhile.
	data, name, err := p.segment(lists)
	if err != nil {
		return err
	}
	if err := p.write(object("index", name), data); err != nil {
		return err
	}
	p.Count.Packs += len(lists)
	p.data, p.copies, p.last = id.Set{}, nil, last{}
	if len(p.meta) > maxChecked {
		p.meta = map[id.ID]uint64{}
	}
	return p.r.add(p.view, name, data)
}
