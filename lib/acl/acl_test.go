package acl

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// What setfacl -m u:1000:rw,u:1001:r,g:100:rx wrote on ext4.
const written = "02000000" + "01000600ffffffff" + "02000600e8030000" + "02000400e9030000" +
	"04000400ffffffff" + "0800050064000000" + "10000700ffffffff" + "20000000ffffffff"

var someACL = ACL{{UserObj, 6, Undefined}, {User, 6, 1000}, {User, 4, 1001},
	{GroupObj, 4, Undefined}, {Group, 5, 100}, {Mask, 7, Undefined}, {Other, 0, Undefined}}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValue(t *testing.T) {
	b := unhex(t, written)
	a, err := Decode(b)
	if err != nil || !slices.Equal(a, someACL) {
		t.Fatal(a, err)
	}
	if !bytes.Equal(a.Encode(), b) {
		t.Errorf("%x", a.Encode())
	}
	if a, err := Decode(b[:4]); err != nil || len(a) != 0 || !bytes.Equal(a.Encode(), b[:4]) {
		t.Error("empty list:", a, err)
	}
	for name, bad := range map[string][]byte{
		"nothing":     nil,
		"cut":         b[:len(b)-1],
		"one byte":    append(slices.Clone(b), 0),
		"version 1":   append([]byte{1}, b[1:]...),
		"unknown tag": append(slices.Clone(b), 0x40, 0, 7, 0, 0, 0, 0, 0),
		"two tags":    append(slices.Clone(b), 0x03, 0, 7, 0, 0, 0, 0, 0),
		"permissions": append(slices.Clone(b), 0x02, 0, 8, 0, 0, 0, 0, 0),
	} {
		if a, err := Decode(bad); !errors.Is(err, ErrACL) {
			t.Errorf("%s: %v %v", name, a, err)
		}
	}
}

func same(n uint32) uint32 { return n }

func TestMap(t *testing.T) {
	before := slices.Clone(someACL)
	if a, changed := someACL.Map(same, same); changed || &a[0] != &someACL[0] {
		t.Error("nothing to map, and the list has changed")
	}
	a, changed := someACL.Map(func(n uint32) uint32 { return 3000 - n }, func(n uint32) uint32 { return n + 1 })
	want := slices.Clone(someACL)
	want[1], want[2], want[4].ID = Entry{User, 4, 1999}, Entry{User, 6, 2000}, 101
	if !changed || !slices.Equal(a, want) {
		t.Errorf("got  %v\nwant %v", a, want)
	}
	// Two users become one: 6 and 4 leave 4.
	a, _ = someACL.Map(func(uint32) uint32 { return 5 }, same)
	if want := slices.Delete(slices.Clone(someACL), 2, 3); len(a) != 6 || a[1] != (Entry{User, 4, 5}) || !slices.Equal(a[2:], want[2:]) {
		t.Errorf("merged: %v", a)
	}
	if !slices.Equal(someACL, before) {
		t.Error("Map has changed the list it was given")
	}
}

// names is a table for tests, both ways.
var names = map[string]uint32{"eve": 1000, "a:b c\\": 1001, "staff": 100, "77": 5}

func nameOf(_ Tag, id uint32) string {
	for n, i := range names {
		if i == id {
			return n
		}
	}
	return ""
}

func idOf(_ Tag, name string, id uint32, known bool) (uint32, bool) {
	if known {
		return id, true
	}
	id, known = names[name]
	return id, known
}

func TestText(t *testing.T) {
	text := someACL.Text(nameOf)
	want := `user::rw-,user:eve:rw-:1000,user:a\072b\040c\134:r--:1001,group::r--,group:staff:r-x:100,mask::rwx,other::---`
	if text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	for _, s := range []string{text,
		someACL.Text(func(Tag, uint32) string { return "" }),
		"u::rw-,u:eve:rw,u:1001:r,g::r,g:100:x-r,m:rwx,o:-",
		"other::---\nmask::rwx\n# a comment, it has a comma\nuser:1001:r--\t#effective:r--\n\nuser:eve:rw-\ngroup:staff:r-x\ngroup::r--\nuser::rw-\n",
		"default:user::rw-,default:user:eve:rw-,d:u:1001:r,d:g::r,default:group:100:rx,default:mask::rwx,default:other::---",
		"user::rw-,user:somebody else:rw-:1000,user:x:r--:1001,group::r--,group:y:r-x:100,mask::rwx,other::---",
	} {
		if a, err := Parse(s, idOf); err != nil || !slices.Equal(a, someACL) {
			t.Errorf("%s: %v %v", s, a, err)
		}
	}
	// A name made of digits would be read as an id.
	if text := (ACL{{User, 4, 5}}).Text(nameOf); text != "user:5:r--" {
		t.Error(text)
	}
	if a, err := Parse("", idOf); err != nil || len(a) != 0 {
		t.Error("empty text:", a, err)
	}
	for _, bad := range []string{"user", "user:", "user:eve", "user:eve:", "user:eve:rwz", "user:nobody here:r", "nobody::r", "mask:eve:r", "other:1:r",
		"user:4294967296:r", "user:eve:r:x", "user:eve:r:1:2", `user:\07:r`, `user:\400:r`, `user:\08x:r`, "user::r,user::r", "user:1:r,user:1:w", "mask:m:r", "default", "default:default:user::r"} {
		if a, err := Parse(bad, idOf); !errors.Is(err, ErrACL) {
			t.Errorf("%s: %v %v", bad, a, err)
		}
	}
}

// What decodes encodes to the same bytes, and survives the text form.
func FuzzDecode(f *testing.F) {
	f.Add(unhex(f, written))
	f.Add(unhex(f, written)[:4])
	f.Add(unhex(f, written)[:13])
	f.Add([]byte{})
	f.Add(append(unhex(f, written), unhex(f, written)[4:]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrACL) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(a.Encode(), b) {
			t.Fatalf("%x decodes, and encodes to %x", b, a.Encode())
		}
		name := func(_ Tag, id uint32) string { return strings.Repeat(fmt.Sprintf("\\:%c%d", byte(id), id), int(id%2)) }
		again, err := Parse(a.Text(name), func(_ Tag, n string, id uint32, known bool) (uint32, bool) {
			return id, known && n == name(User, id)
		})
		plain := slices.Clone(a)
		for i, e := range plain {
			if !e.named() {
				plain[i].ID = Undefined
			}
		}
		plain.sort()
		if err == nil && !slices.Equal(again, plain) {
			t.Fatalf("%s: %v became %v", a.Text(name), plain, again)
		}
		if err != nil && !strings.Contains(err.Error(), "given twice") {
			t.Fatalf("%s: %v", a.Text(name), err)
		}
	})
}

// Any text ends with a list that can be written, or ErrACL.
func FuzzParse(f *testing.F) {
	f.Add(someACL.Text(nameOf))
	f.Add("u::rw-,u:eve:rw,g::r,m:rwx,o:-")
	f.Add("default:user:1000:rwx:1000\n# x\nd:o::r")
	f.Add(`user:\072\134:---`)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s, idOf)
		if err != nil {
			if !errors.Is(err, ErrACL) {
				t.Fatal(err)
			}
			return
		}
		if again, err := Decode(a.Encode()); err != nil || !slices.Equal(again, a) {
			t.Fatalf("%v became %v: %v", a, again, err)
		}
	})
}
