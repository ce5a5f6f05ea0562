package key

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"preserve/lib/vectors"
)

var made = time.Date(2026, 5, 17, 0, 0, 0, 0, time.UTC)

// sums returns a body with its checksum made right.
func sums(b []byte) []byte {
	b = bytes.Clone(b[:len(b)-sumSize])
	return append(b, checksum(b)...)
}

// changed returns a copy of b with the byte at at (from the end if negative)
// replaced.
func changed(b []byte, at int, c byte) []byte {
	b = bytes.Clone(b)
	if at < 0 {
		at += len(b)
	}
	b[at] = c
	return b
}

func without(b []byte, n int) []byte { return b[:len(b)-n] }

// bodyErrors are the errors that the vectors name.
var bodyErrors = map[string]error{
	"": nil, "ErrNotKey": ErrNotKey, "ErrVersion": ErrVersion, "ErrChecksum": ErrChecksum, "ErrKind": ErrKind,
	"ErrLength": ErrLength, "ErrName": ErrName, "ErrID": ErrID, "ErrField": ErrField,
}

func recordBodies(t *testing.T) {
	var w vectors.Writer
	w.WriteString("# Bodies of key files, what the PEM block holds: docs/format/crypto.md, \"Keys\". Those\n" +
		"# with an error are refused; in all but the damaged ones the checksum is right.\n" + vectors.Form)
	put := func(name, err string, body []byte) {
		w.WriteString("\n")
		w.Text("case", name)
		if err != "" {
			w.Text("error", err)
		}
		w.Hex("body", body)
	}
	keys := all(t)
	for kind := Master; kind.valid(); kind++ {
		put(kind.String()+" key", "", keys[kind].body())
	}
	m, l := keys[Master].body(), keys[List].body()
	wr := keys[Write].body()
	name := headSize // where the name begins
	withName := func(b []byte, s string) []byte {
		b = append(append(append(b[:headSize-1:headSize-1], byte(len(s))), s...), b[headSize:]...)
		return sums(b)
	}
	put("nothing", "ErrNotKey", nil)
	put("another file", "ErrNotKey", []byte("these bytes are something else"))
	put("version 2", "ErrVersion", sums(changed(l, 3, '2')))
	put("a flipped bit", "ErrChecksum", changed(l, 40, l[40]^1))
	put("a flipped bit in the checksum", "ErrChecksum", changed(l, -1, l[len(l)-1]^1))
	put("cut short", "ErrChecksum", without(l, 1))
	put("one byte too many", "ErrChecksum", append(bytes.Clone(l), 0))
	put("a field cut short", "ErrLength", sums(without(l, 1)))
	put("bytes behind the fields", "ErrLength", sums(append(bytes.Clone(l), 0)))
	put("no fields", "ErrLength", sums(l[:headSize+sumSize]))
	put("a name longer than the file", "ErrLength", sums(changed(l, headSize-1, 255)))
	put("kind 5", "ErrKind", sums(changed(l, 4, 5)))
	put("a list key that says it is a read key", "ErrLength", sums(changed(l, 4, byte(Read))))
	put("a master key with another id", "ErrID", sums(changed(m, 5, m[5]^1)))
	put("a list key with a name", "ErrName", withName(l, "laptop"))
	put("a master key with a name", "ErrName", withName(m, "master"))
	put("a write key without a name", "ErrName", sums(append(changed(wr, headSize-1, 0)[:name], wr[name+len("laptop"):]...)))
	put("a writer named in upper case", "ErrName", sums(changed(wr, name, 'L')))
	put("a public key beyond the modulus", "ErrField", sums(append(append(wr[:name+6+96:name+6+96], 0xff, 0xff, 0xff), wr[name+6+96+3:]...)))
	w.Save(t, "crypto/keyfiles.txt")
}

func TestBodyVectors(t *testing.T) {
	if *record {
		recordBodies(t)
	}
	good, bad := 0, 0
	for _, v := range vectors.Read(t, "crypto/keyfiles.txt") {
		want, known := bodyErrors[string(v["error"])]
		if !known {
			t.Errorf("%s: no error %q", v["case"], v["error"])
		}
		k, err := parseBody(v["body"])
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", v["case"], err, want)
		}
		if err != nil {
			bad++
			continue
		}
		good++
		if !bytes.Equal(k.body(), v["body"]) {
			t.Errorf("%s: written again it differs", v["case"])
		}
		if want := k.kind.String() + " key"; want != string(v["case"]) || k.ID() != master(t).ID() {
			t.Errorf("%s: read as %v", v["case"], k)
		}
	}
	if good == 0 || bad < good {
		t.Errorf("%d good vectors, %d bad ones", good, bad)
	}
}

func TestMarshalParse(t *testing.T) {
	for kind, k := range all(t) {
		file := k.Marshal(made)
		got, err := Parse(file)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if got.Kind() != kind || got.ID() != k.ID() || got.Name() != k.Name() || !bytes.Equal(got.body(), k.body()) {
			t.Errorf("%s key is read back as %v", kind, got)
		}
		// Mail programs and editors may do this to it.
		crlf := strings.ReplaceAll(string(file), "\n", "\r\n") + " \r\n\n"
		if _, err := Parse([]byte(crlf)); err != nil {
			t.Errorf("%s with CRLF: %v", kind, err)
		}
		if bare := file[bytes.Index(file, []byte(pemBegin)):]; len(bare) == len(file) {
			t.Errorf("%s: no lines for people", kind)
		} else if _, err := Parse(bare); err != nil {
			t.Errorf("%s without its first lines: %v", kind, err)
		}
	}
	want := `Preserve write key of the writer laptop
key id  ee88-199d-94b3-2368
made    2026-05-17
can     make backups
cannot  read backups, its own included

-----BEGIN PRESERVE WRITE KEY-----
`
	if got := string(all(t)[Write].Marshal(made)); !strings.HasPrefix(got, want) {
		t.Errorf("a write key's file begins\n%s", got[:len(want)])
	}
}

func TestParseRefuses(t *testing.T) {
	keys := all(t)
	file := keys[List].Marshal(made)
	block := func(label string, headers map[string]string, body []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: label, Headers: headers, Bytes: body})
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"empty":            {nil, ErrNotKey},
		"text":             {[]byte("hello\n"), ErrNotKey},
		"no end":           {without(file, 20), ErrNotKey},
		"half":             {file[:len(file)/2], ErrNotKey},
		"another PEM":      {block("CERTIFICATE", nil, keys[List].body()), ErrNotKey},
		"bare label":       {block("PRESERVE", nil, keys[List].body()), ErrNotKey},
		"headers":          {block("PRESERVE LIST KEY", map[string]string{"a": "b"}, keys[List].body()), ErrNotKey},
		"two keys":         {append(bytes.Clone(file), file...), ErrTrailing},
		"text behind":      {append(bytes.Clone(file), "x\n"...), ErrTrailing},
		"a form feed":      {append(bytes.Clone(file), "\f\n"...), ErrTrailing},
		"a hard space":     {append(bytes.Clone(file), "\u00a0\n"...), ErrTrailing},
		"another label":    {block("PRESERVE READ KEY", nil, keys[List].body()), ErrKind},
		"label lower case": {block("PRESERVE list KEY", nil, keys[List].body()), ErrKind},
		"unknown label":    {block("PRESERVE SPARE KEY", nil, keys[List].body()), ErrKind},
		"too long":         {append(bytes.Repeat([]byte("a comment\n"), MaxFile/10+1), file...), ErrSize},
	} {
		if k, err := Parse(c.data); !errors.Is(err, c.want) || k != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	long := append(bytes.Repeat([]byte{'\n'}, MaxFile-len(file)), file...)
	if _, err := Parse(long); err != nil {
		t.Errorf("%d bytes: %v", len(long), err)
	}
}

// No single changed byte of a key file goes unnoticed, unless it is in the lines
// for people or the white space.
func TestEveryByteCounts(t *testing.T) {
	k := all(t)[Read]
	file := k.Marshal(made)
	for i := bytes.Index(file, []byte(pemBegin)); i < len(file); i++ {
		got, err := Parse(changed(file, i, file[i]^1))
		if err == nil && !bytes.Equal(got.body(), k.body()) {
			t.Errorf("byte %d changed: another key", i)
		}
		if err == nil && file[i] != '\n' && file[i] != '=' {
			t.Errorf("byte %d (%q) changed: no error", i, file[i])
		}
	}
}

// What a disk gives back is compared with what was written, all of it.
func TestSaveReadsBack(t *testing.T) {
	k := all(t)[Read]
	for what, spoil := range map[string]func(b []byte) []byte{
		"another byte":  func(b []byte) []byte { return changed(b, -3, b[len(b)-3]^1) },
		"the first bit": func(b []byte) []byte { return changed(b, 0, b[0]^0x80) },
		"cut short":     func(b []byte) []byte { return without(b, 1) },
		"nothing":       func([]byte) []byte { return nil },
		"more behind":   func(b []byte) []byte { return append(b, '\n') },
	} {
		path := filepath.Join(t.TempDir(), "k")
		err := k.save(path, func(name string) ([]byte, error) {
			b, err := os.ReadFile(name)
			return spoil(b), err
		})
		if !errors.Is(err, ErrReadBack) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want ErrReadBack", what, err)
		}
	}
	path := filepath.Join(t.TempDir(), "k")
	err := k.save(path, func(name string) ([]byte, error) {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrPermission}
	})
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a file that cannot be read back: %v", err)
	}
	if err := k.save(filepath.Join(t.TempDir(), "k"), os.ReadFile); err != nil {
		t.Errorf("as it was written: %v", err)
	}
}

func TestSaveLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	for kind, k := range all(t) {
		if err := k.Save(path); err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode() != 0o600 {
			t.Errorf("mode %v, %v", st.Mode(), err)
		}
		got, warning, err := Load(path)
		if err != nil || warning != "" || got.Kind() != kind || !bytes.Equal(got.body(), k.body()) {
			t.Errorf("loaded %v, %q, %v", got, warning, err)
		}
		before, _ := os.ReadFile(path)
		err = k.Save(path)
		if !errors.Is(err, ErrExists) || err.Error() != `key file "`+path+`": exists, and a key file is never overwritten` {
			t.Errorf("saved over a key: %v", err)
		}
		if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
			t.Error("a key file has changed")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := all(t)[Cut].Save(filepath.Join(dir, "no", "k")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("saved where there is no directory: %v", err)
	}
}

func TestLoadMessages(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	file := all(t)[List].Marshal(made)
	write := func(name string, data []byte, mode os.FileMode) {
		if err := errors.Join(os.WriteFile(name, data, 0o600), os.Chmod(name, mode)); err != nil {
			t.Fatal(err)
		}
	}
	// A digit of the checksum, which is in the line before the last.
	at := bytes.LastIndex(file, []byte("\n-----END")) - 6
	write("damaged", changed(file, at, file[at]^1), 0o600)
	write("open", file, 0o644)
	write("group", file, 0o620)
	write("long", make([]byte, MaxFile+1), 0o600)
	for name, want := range map[string]string{
		"damaged": `key file "damaged": checksum differs: the file is damaged`,
		"long":    `key file "long": larger than any key file (16 KiB)`,
		"absent":  `open key file "absent": no such file or directory`,
		".":       `key file ".": is a directory`,
	} {
		if _, _, err := Load(name); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", name, err, want)
		}
	}
	for name, want := range map[string]string{
		"open":  `key file "open" is open to others (mode 0644): chmod 600 it`,
		"group": `key file "group" is open to others (mode 0620): chmod 600 it`,
	} {
		if _, warning, err := Load(name); err != nil || warning != want {
			t.Errorf("%s: %q, %v", name, warning, err)
		}
	}
	if _, _, err := Load("absent"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A key file is accepted only in the one form in which it is written.
func FuzzParse(f *testing.F) {
	for _, k := range all(f) {
		f.Add(k.Marshal(made))
		f.Add(without(k.Marshal(made), 20))
	}
	for _, v := range vectors.Read(f, "crypto/keyfiles.txt") {
		f.Add(pem.EncodeToMemory(&pem.Block{Type: "PRESERVE LIST KEY", Bytes: v["body"]}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := Parse(data)
		if err != nil {
			if k != nil {
				t.Fatal("a key and an error")
			}
			return
		}
		block, _ := pem.Decode(data)
		if !bytes.Equal(k.body(), block.Bytes) {
			t.Fatal("another body gives the same key")
		}
		again, err := Parse(k.Marshal(made))
		if err != nil || !bytes.Equal(again.body(), k.body()) {
			t.Fatalf("written again: %v", err)
		}
	})
}
