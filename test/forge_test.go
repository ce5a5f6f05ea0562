package test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"preserve/lib/box"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/walk"
	"preserve/lib/wire"
)

// forge [-up] KEY: makes a snapshot that pv-seal would refuse to make, as somebody
// could who holds a write key and writes programs. It writes the stream that
// pv-get would give, or with -up one for pv-put, and the snapshot's id on stderr. Each line of stdin is a
// command; words are separated by single spaces, and one that begins with a
// quotation mark is a string of Go.
//
//	file PATH [CONTENT] [FIELD=VALUE…]   an entry. CONTENT becomes a data blob of its own;
//	symlink PATH TARGET [FIELD=VALUE…]   fields override what follows from the rest: mode, uid,
//	link PATH LEADER [FIELD=VALUE…]      gid, time, size, off, more, links, flags, major, minor,
//	TYPE PATH [FIELD=VALUE…]             err, xattr (NAME:VALUE) and ext. CONTENT has no "="
//	ext=BLOB:OFFSET:LENGTH[*TIMES]       extents of a data blob; of reference #N of the page; or a
//	ext=hole:LENGTH                      hole
//	data BLOB CONTENT                    a data blob
//	zeros BLOB CLAIM [LENGTH]            one whose compressed form says CLAIM, and holds LENGTH zeros
//	page [PATH]                          the next page begins; its row in the index page says PATH
//	raw HEX                              bytes of the page, between its entries
//	bloat LENGTH                         so many zeros behind them
//	ref BLOB                             a reference of the page
//	index KIND…                          the index pages' kinds, from the pages up
//	certificate FILE                     take name and certificate from the snapshot of a sealed
//	                                     stream that the key opens
//	poses FILE                           likewise, and the writer's public key
//	says FIELD=VALUE…                    entries, bytes, host, user, label, partial of the snapshot
func forge(args []string) error {
	order := rec.Down
	if len(args) > 0 && args[0] == "-up" {
		order, args = rec.Up, args[1:]
	}
	if len(args) != 1 {
		return errors.New("usage: forge [-up] KEY <commands >sealed")
	}
	id, stream, err := forged(args[0], order, os.Stdin)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, id)
	_, err = os.Stdout.Write(stream)
	return err
}

// forged returns the snapshot's id and its stream.
func forged(keyFile, order string, commands io.Reader) (id string, stream []byte, err error) {
	k, _, err := key.Load(keyFile)
	if err != nil {
		return "", nil, err
	}
	f, err := newForger(k)
	if err != nil {
		return "", nil, err
	}
	lines := bufio.NewScanner(commands)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		words, err := split(lines.Text())
		if err == nil && words[0] != "" {
			err = f.command(words)
		}
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w", lines.Text(), err)
		}
	}
	if err := lines.Err(); err != nil {
		return "", nil, err
	}
	top, err := f.snapshot()
	if err != nil {
		return "", nil, err
	}
	var out bytes.Buffer
	w := rec.NewWriter(&out)
	blobs := f.below(nil, top)
	if order == rec.Up {
		slices.Reverse(blobs)
	}
	all := append([]rec.Record{&rec.Head{Kind: rec.Sealed, Order: order}, &rec.Session{Data: f.session}}, blobs...)
	for _, v := range append(all, &rec.End{}) {
		if err := w.Write(v); err != nil {
			return "", nil, err
		}
	}
	return top.ID.String(), out.Bytes(), w.Flush()
}

// below appends a blob and all that it refers to, in the order of a restore.
func (f *forger) below(to []rec.Record, b *rec.Blob) []rec.Record {
	b.CRC = b.Sum()
	to = append(to, b)
	for refs := b.Refs; len(refs) >= 32; refs = refs[32:] {
		if child := f.blobs[string(refs[:32])]; child != nil {
			to = f.below(to, child)
		}
	}
	return to
}

// split cuts a line into words.
func split(line string) (words []string, err error) {
	word := ""
	for {
		at := strings.IndexAny(line, " \"")
		switch {
		case at < 0:
			return append(words, word+line), nil
		case line[at] == ' ':
			words, word, line = append(words, word+line[:at]), "", line[at+1:]
		default:
			quoted, err := strconv.QuotedPrefix(line[at:])
			if err != nil {
				return nil, err
			}
			text, _ := strconv.Unquote(quoted) // it is one
			word, line = word+line[:at]+text, line[at+len(quoted):]
		}
	}
}

// A forgedPage is a page in the making.
type forgedPage struct {
	plain []byte
	refs  page.Refs
	twice []byte // references that it has besides
	first page.Key
	begun bool
}

func (f *forger) command(words []string) error {
	p := f.pages[len(f.pages)-1]
	word := append(words[1:], "", "", "")
	switch words[0] {
	case "data":
		f.data[word[0]] = f.seal(rec.KindData, nil, []byte(word[1]), stored([]byte(word[1])))
	case "zeros":
		return f.zeros(word[0], word[1], word[2])
	case "page":
		if p.begun {
			p = &forgedPage{}
			f.pages = append(f.pages, p)
		}
		p.first.Path, p.begun = word[0], word[0] != ""
	case "raw":
		b, err := hex.DecodeString(word[0])
		p.plain = append(p.plain, b...)
		return err
	case "bloat":
		n, err := strconv.Atoi(word[0])
		p.plain = append(p.plain, make([]byte, n)...)
		return err
	case "ref":
		i := f.data[word[0]].ID
		p.twice = append(p.twice, i[:]...)
	case "index":
		for _, w := range words[1:] {
			n, err := strconv.ParseUint(w, 10, 8)
			if err != nil {
				return err
			}
			f.kinds = append(f.kinds, uint8(n))
		}
	case "certificate", "poses":
		s, err := f.genuine(word[0])
		if err != nil {
			return err
		}
		f.top.WriterName, f.top.WriterCert = s.WriterName, s.WriterCert
		if words[0] == "poses" {
			f.top.WriterKey = s.WriterKey
		}
	case "says":
		for _, w := range words[1:] {
			if err := f.say(w); err != nil {
				return err
			}
		}
	default:
		return f.entry(p, words)
	}
	return nil
}

// genuine returns the snapshot of a sealed stream.
func (f *forger) genuine(file string) (*snap.Snapshot, error) {
	stream, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	open, err := box.NewOpener(f.key)
	if err != nil {
		return nil, err
	}
	in := rec.NewReader(stream, rec.Sealed)
	for {
		v, err := in.Next()
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case *rec.Session:
			if _, err := open.AddSession(v.Data); err != nil {
				return nil, err
			}
		case *rec.Blob:
			return walk.OpenSnapshot(open, v)
		}
	}
}

// say overrides a field of the snapshot.
func (f *forger) say(word string) (err error) {
	name, value, _ := strings.Cut(word, "=")
	switch name {
	case "entries":
		f.top.Entries, err = strconv.ParseUint(value, 0, 64)
	case "bytes":
		f.top.Bytes, err = strconv.ParseUint(value, 0, 64)
	case "host":
		f.top.Host = value
	case "user":
		f.top.User = value
	case "label":
		f.top.Label = value
	case "partial":
		f.top.Partial = true
	case "owner":
		f.top.Users = []rec.Name{{ID: 0, Name: value}}
	default:
		err = errors.New("no such field")
	}
	f.said[name] = true
	return err
}

func (f *forger) entry(p *forgedPage, words []string) error {
	e := &rec.Entry{Type: rec.ParseType(words[0]), Path: words[1], Mode: 0o755, MTime: rec.Time{Sec: 1_700_000_000}}
	fields := words[2:]
	switch {
	case e.Type == rec.None:
		return errors.New("no such command")
	case e.Type == rec.HardLink:
		*e = rec.Entry{Type: rec.HardLink, Path: words[1], Leader: words[2]}
		fields = words[3:]
	case e.Type == rec.Symlink:
		e.Target, fields = words[2], words[3:]
	case e.Type == rec.File && len(fields) > 0 && !strings.Contains(fields[0], "="):
		name := fmt.Sprintf("content %d", len(f.data))
		f.data[name] = f.seal(rec.KindData, nil, []byte(fields[0]), stored([]byte(fields[0])))
		e.Extents = []rec.Extent{{N: p.refs.Index(f.data[name].ID), Len: uint64(len(fields[0]))}}
		fields = fields[1:]
	}
	sized := false
	for _, w := range fields {
		name, value, _ := strings.Cut(w, "=")
		sized = sized || name == "size"
		if err := f.field(p, e, name, value); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	sum, _ := e.ContentLen() // it may be meant not to add up
	if !sized && e.Type == rec.File {
		e.Size = e.Off + sum
	}
	if e.Off == 0 {
		f.top.Entries += one(!f.said["entries"])
	}
	f.top.Bytes += sum * one(!f.said["bytes"])
	if !p.begun {
		p.first, p.begun = page.KeyOf(e), true
	}
	w := wire.NewWriter()
	page.Encode(w, []*rec.Entry{e})
	p.plain = append(p.plain, w.Bytes()...)
	return nil
}

func one(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// field sets a field of an entry.
func (f *forger) field(p *forgedPage, e *rec.Entry, name, value string) (err error) {
	number := func() (n uint64) {
		n, err = strconv.ParseUint(value, 0, 64)
		return n
	}
	switch name {
	case "mode":
		e.Mode = uint32(number())
	case "uid":
		e.UID = uint32(number())
	case "gid":
		e.GID = uint32(number())
	case "time":
		e.MTime.Sec = int64(number())
	case "size":
		e.Size = number()
	case "off":
		*e = rec.Entry{Type: e.Type, Path: e.Path, Extents: e.Extents, Off: number()}
	case "more":
		e.More = true
	case "links":
		e.Links = uint32(number())
	case "flags":
		e.Flags = uint32(number())
	case "major":
		e.Major = uint32(number())
	case "minor":
		e.Minor = uint32(number())
	case "err":
		e.Err = value
	case "xattr":
		n, v, _ := strings.Cut(value, ":")
		e.XAttrs = append(e.XAttrs, rec.XAttr{Name: n, Value: []byte(v)})
	case "ext":
		return f.extents(p, e, value)
	default:
		err = errors.New("no such field")
	}
	return err
}

func (f *forger) extents(p *forgedPage, e *rec.Entry, value string) error {
	value, times, _ := strings.Cut(value, "*")
	n, err := strconv.Atoi(times)
	if times == "" {
		n, err = 1, nil
	}
	if err != nil {
		return err
	}
	word := strings.Split(value, ":")
	x := rec.Extent{Hole: word[0] == "hole"}
	numbers := []*uint64{&x.Off, &x.Len}
	switch {
	case x.Hole:
		numbers = numbers[len(numbers)+1-len(word):]
	case strings.HasPrefix(word[0], "#"):
		x.N, err = strconv.ParseUint(word[0][1:], 10, 64)
	case f.data[word[0]] == nil:
		err = errors.New("no such blob")
	default:
		x.N = p.refs.Index(f.data[word[0]].ID)
	}
	for i, to := range numbers {
		if err == nil {
			*to, err = strconv.ParseUint(word[1+i], 0, 64)
		}
	}
	for range n {
		e.Extents = append(e.Extents, x)
	}
	return err
}

// snapshot seals all pages, the index pages and the snapshot.
func (f *forger) snapshot() (*rec.Blob, error) {
	var keys []page.Key
	var children []*rec.Blob
	for _, p := range f.pages {
		refs := append(p.refs.Bytes, p.twice...)
		children = append(children, f.seal(rec.KindPage, refs, p.plain, stored(p.plain)))
		keys = append(keys, p.first)
	}
	if len(f.pages) > 1 && len(f.kinds) == 0 {
		f.kinds = []uint8{2}
	}
	for _, kind := range f.kinds {
		w := wire.NewWriter()
		page.EncodeIndex(w, keys)
		var refs []byte
		for _, c := range children {
			refs = append(refs, c.ID[:]...)
		}
		children = []*rec.Blob{f.seal(kind, refs, w.Bytes(), stored(w.Bytes()))}
		keys = keys[:1]
	}
	f.top.Time = rec.TimeOf(time.Now())
	plain, err := f.top.Encode()
	if err != nil {
		return nil, err
	}
	root := children[0].ID
	b := f.seal(rec.KindSnapshot, root[:], plain, stored(plain))
	b.Sig = f.sign(b.ID)
	return b, nil
}
