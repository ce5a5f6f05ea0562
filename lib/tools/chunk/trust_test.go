package chunk

import (
	"math"
	"testing"
	"time"

	"preserve/lib/rec"
	"preserve/lib/source"
)

func TestTrust(t *testing.T) {
	local, odd := source.FileSystem{Inodes: true, ChangeTimes: true}, source.FileSystem{ChangeTimes: true}
	nfs, cifs := source.FileSystem{Inodes: true, Network: true, ChangeTimes: true}, source.FileSystem{Network: true, ChangeTimes: true}
	image, fat, fuse := source.FileSystem{Inodes: true}, source.FileSystem{}, source.FileSystem{Network: true}
	for name, c := range map[string]struct {
		trust trust
		on    source.FileSystem
		scan  func(e *rec.Entry) // what the scan found, changed
		cache func(k *rec.Entry) // what the cache says, changed
		want  bool
	}{
		"unchanged":                      {on: local, want: true},
		"type":                           {on: local, scan: func(e *rec.Entry) { e.Type = rec.Fifo }},
		"size":                           {on: local, scan: func(e *rec.Entry) { e.Size++ }},
		"mtime":                          {on: local, scan: func(e *rec.Entry) { e.MTime.Nsec++ }},
		"ctime":                          {on: local, scan: func(e *rec.Entry) { e.CTime.Nsec++ }},
		"ctime goes back":                {on: local, scan: func(e *rec.Entry) { e.CTime.Sec-- }},
		"ctime ignored":                  {trust: trust{ignoreCTime: true}, on: local, scan: func(e *rec.Entry) { e.CTime.Sec += 9999 }, want: true},
		"mtime is not":                   {trust: trust{ignoreCTime: true}, on: local, scan: func(e *rec.Entry) { e.MTime.Sec-- }},
		"inode":                          {on: local, scan: func(e *rec.Entry) { e.Ino++ }},
		"inode ignored":                  {trust: trust{ignoreInode: true}, on: local, scan: func(e *rec.Entry) { e.Ino++ }, want: true},
		"inodes that do not last":        {on: odd, scan: func(e *rec.Entry) { e.Ino++ }, want: true},
		"and time that does not agree":   {on: odd, scan: func(e *rec.Entry) { e.Ino++; e.CTime.Sec++ }},
		"inode on a file server":         {on: nfs, scan: func(e *rec.Entry) { e.Ino++ }},
		"inodes of CIFS":                 {on: cifs, scan: func(e *rec.Entry) { e.Ino++ }, want: true},
		"no change times of its own":     {on: image},
		"nor with inodes ignored":        {trust: trust{ignoreInode: true}, on: image},
		"size and mtime have to do":      {trust: trust{ignoreCTime: true}, on: image, want: true},
		"no change times of vfat":        {on: fat, scan: func(e *rec.Entry) { e.Ino++ }},
		"so there":                       {trust: trust{ignoreCTime: true}, on: fat, scan: func(e *rec.Entry) { e.Ino++ }, want: true},
		"no change times of FUSE":        {on: fuse},
		"so there, too":                  {trust: trust{ignoreCTime: true}, on: fuse, want: true},
		"unreadable then":                {on: local, cache: func(k *rec.Entry) { k.Err = "open: permission denied" }},
		"inconsistent then":              {on: local, cache: func(k *rec.Entry) { k.Inconsistent = true }},
		"a piece in a tree stream":       {on: local, scan: func(e *rec.Entry) { e.Off = 5 }},
		"a later piece":                  {on: local, cache: func(k *rec.Entry) { k.Off = 5 }},
		"nobody knows what was read":     {on: local, cache: func(k *rec.Entry) { k.CTime = rec.Time{} }},
		"not even with ctime ignored":    {trust: trust{ignoreCTime: true}, on: local, cache: func(k *rec.Entry) { k.CTime = rec.Time{} }},
		"nor if the scan says none":      {on: local, scan: func(e *rec.Entry) { e.CTime = rec.Time{} }, cache: func(k *rec.Entry) { k.CTime = rec.Time{} }},
		"margin kept":                    {trust: trust{margin: 99 * time.Second}, on: local, want: true},
		"margin not kept":                {trust: trust{margin: 100 * time.Second}, on: local},
		"margin kept by another's":       {trust: trust{margin: 19 * time.Second}, on: nfs, want: true},
		"margin not kept by another's":   {trust: trust{margin: 20 * time.Second}, on: nfs},
		"nor by CIFS":                    {trust: trust{margin: 20 * time.Second}, on: cifs, scan: func(e *rec.Entry) { e.Ino++ }},
		"changed in the instant":         {on: local, scan: func(e *rec.Entry) { e.CTime.Sec = 1000 }, cache: func(k *rec.Entry) { k.CTime.Sec = 1000 }},
		"changed after it":               {on: local, scan: func(e *rec.Entry) { e.CTime.Sec = 1001 }, cache: func(k *rec.Entry) { k.CTime.Sec = 1001 }},
		"a nanosecond before":            {on: local, scan: func(e *rec.Entry) { e.CTime = rec.Time{Sec: 999, Nsec: 999_999_999} }, cache: func(k *rec.Entry) { k.CTime = rec.Time{Sec: 999, Nsec: 999_999_999} }, want: true},
		"mtime of the future":            {on: local, scan: func(e *rec.Entry) { e.MTime.Sec = 5000 }, cache: func(k *rec.Entry) { k.MTime.Sec = 5000 }, want: true},
		"if it has to do for the ctime":  {trust: trust{ignoreCTime: true}, on: local, scan: func(e *rec.Entry) { e.MTime.Sec = 5000 }, cache: func(k *rec.Entry) { k.MTime.Sec = 5000 }},
		"owner and mode: ctime has told": {on: local, scan: func(e *rec.Entry) { e.Mode, e.UID = 0o600, 7 }, want: true},
	} {
		began := rec.Time{Sec: 1000}
		e := &rec.Entry{Path: "p", Type: rec.File, Size: 10, MTime: rec.Time{Sec: 500}, CTime: rec.Time{Sec: 900}, Ino: 7, Dev: 1}
		k := *e
		if c.scan != nil {
			c.scan(e)
		}
		if c.cache != nil {
			c.cache(&k)
		}
		near, far := c.trust.cutoffs(began)
		if got := c.trust.same(e, &k, near, far, func(*rec.Entry) source.FileSystem { return c.on }); got != c.want {
			t.Errorf("%s: trusted: %v, want %v", name, got, c.want)
		}
	}
}

func TestEarlier(t *testing.T) {
	for _, c := range []struct {
		t    rec.Time
		d    time.Duration
		want rec.Time
	}{
		{rec.Time{Sec: 100, Nsec: 5}, 0, rec.Time{Sec: 100, Nsec: 5}},
		{rec.Time{Sec: 100, Nsec: 5}, time.Minute, rec.Time{Sec: 40, Nsec: 5}},
		{rec.Time{Sec: 100, Nsec: 5}, 1500 * time.Millisecond, rec.Time{Sec: 98, Nsec: 500_000_005}},
		{rec.Time{Sec: -1}, time.Nanosecond, rec.Time{Sec: -2, Nsec: 999_999_999}},
		{rec.Time{Sec: math.MinInt64, Nsec: 9}, time.Hour, rec.Time{Sec: math.MinInt64}},
		{rec.Time{Sec: 0}, math.MaxInt64, rec.Time{Sec: -9223372037, Nsec: 145224193}},
	} {
		if got := earlier(c.t, c.d); got != c.want {
			t.Errorf("%v before %v: %v, want %v", c.d, c.t, got, c.want)
		}
	}
	// Five times the longest margin does not go round.
	tr := trust{margin: math.MaxInt64}
	if near, far := tr.cutoffs(rec.Time{Sec: 1 << 40}); !before(far, near) || !before(near, rec.Time{Sec: 1 << 40}) {
		t.Errorf("cutoffs %v, %v", near, far)
	}
}
