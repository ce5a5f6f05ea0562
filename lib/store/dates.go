package store

import (
	"errors"
	"fmt"
	"io/fs"

	"preserve/lib/pack"
)

// A pack's time is when it was first listed, not when it was written: a put may hold back
// for long what it has written, and others store meanwhile what is then found behind it.
// Until then a pack is undated, and is younger than all that have a time. So it
// remains if its put is killed, and whoever adopts it lists it as what came last. Packs
// whose segment is lost have a time, and keep it.

// date gives the packs that are about to be listed their time, durably, unless they have
// one. Those of another user may keep none: they stay the youngest.
func (p *Put) date(lists []pack.List) error {
	for _, l := range lists {
		if err := p.w.Date(packName(l.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p.spaceError(fmt.Errorf("pack %s: note when it is listed: %w", l.Name, err))
		}
		p.r.mu.Lock()
		delete(p.r.ages, l.Name)
		p.r.mu.Unlock()
	}
	return nil
}
