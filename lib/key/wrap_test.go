package key

import (
	"bytes"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"preserve/lib/vectors"
)

// cheap is as little work as there is.
var cheap = Cost{Time: 1, Memory: 8, Threads: 1}

var wrapErrors = map[string]error{
	"": nil, "ErrNotWrapped": ErrNotWrapped, "ErrVersion": ErrVersion, "ErrCost": ErrCost,
	"ErrPassphrase": ErrPassphrase, "ErrDamaged": ErrDamaged,
}

func recordWrapped(t *testing.T) {
	var w vectors.Writer
	w.WriteString("# Wrapped keys, what the PEM block holds: docs/format/crypto.md, \"Wrapped keys\". Those with an\n" +
		"# error are refused; \"key\" is the body of the key file inside.\n" + vectors.Form)
	put := func(name, err, phrase string, body, inside []byte) {
		w.WriteString("\n")
		w.Text("case", name)
		if err != "" {
			w.Text("error", err)
		}
		w.Text("passphrase", phrase)
		w.Hex("wrapped", body)
		if err == "" {
			w.Hex("key", inside)
		}
	}
	salt := bytes.Repeat([]byte{0xa5}, wrapSalt)
	make := func(k *Key, phrase string, c Cost) []byte {
		b, err := k.wrap([]byte(phrase), c, salt)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	k := all(t)[Master]
	const phrase = "abandon ability able about above absent absorb abstract"
	good := make(k, phrase, cheap)
	put("a master key", "", phrase, good, k.body())
	put("white space does not count", "", "  abandon ability\table about above absent\n absorb abstract\n", good, k.body())
	put("three passes in four lanes", "", "grüße", make(k, "grüße", Cost{3, 64, 4}), k.body())
	put("a list key", "", phrase, make(all(t)[List], phrase, cheap), all(t)[List].body())
	put("another passphrase", "ErrPassphrase", "abandon", good, nil)
	put("capitals count", "ErrPassphrase", strings.ToUpper(phrase), good, nil)
	put("a flipped bit in the salt", "ErrPassphrase", phrase, changed(good, 13, good[13]^1), nil)
	put("a flipped bit in the check", "ErrPassphrase", phrase, changed(good, wrapHead-1, good[wrapHead-1]^1), nil)
	put("a flipped bit inside", "ErrDamaged", phrase, changed(good, wrapHead, good[wrapHead]^1), nil)
	put("a flipped bit at the end", "ErrDamaged", phrase, changed(good, -1, good[len(good)-1]^1), nil)
	put("one byte too many", "ErrDamaged", phrase, append(bytes.Clone(good), 0), nil)
	put("cut short", "ErrDamaged", phrase, without(good, 1), nil)
	put("only a head", "ErrNotWrapped", phrase, good[:wrapHead], nil)
	put("nothing", "ErrNotWrapped", phrase, nil, nil)
	put("a key file's body", "ErrNotWrapped", phrase, append(k.body(), bytes.Repeat([]byte{0}, 64)...), nil)
	put("version 2", "ErrVersion", phrase, changed(good, 3, '2'), nil)
	put("no pass", "ErrCost", phrase, changed(good, 7, 0), nil)
	put("65537 passes", "ErrCost", phrase, changed(changed(good, 5, 1), 7, 1), nil)
	put("more than 2 GiB", "ErrCost", phrase, changed(changed(good, 9, 0x20), 11, 1), nil)
	put("less than 8 KiB", "ErrCost", phrase, changed(good, 11, 7), nil)
	put("no lane", "ErrCost", phrase, changed(good, 12, 0), nil)
	put("17 lanes", "ErrCost", phrase, changed(changed(good, 12, 17), 11, 255), nil)
	w.Save(t, "crypto/wrapped.txt")
}

func TestWrappedVectors(t *testing.T) {
	if *record {
		recordWrapped(t)
	}
	good, bad := 0, 0
	for _, v := range vectors.Read(t, "crypto/wrapped.txt") {
		want, known := wrapErrors[string(v["error"])]
		if !known {
			t.Errorf("%s: no error %q", v["case"], v["error"])
		}
		w, err := parseWrapped(v["wrapped"])
		var k *Key
		if err == nil {
			k, err = w.Open(v["passphrase"])
		}
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: %v, want %v", v["case"], err, want)
		}
		if err != nil {
			bad++
			continue
		}
		good++
		if !bytes.Equal(k.body(), v["key"]) {
			t.Errorf("%s: another key is inside", v["case"])
		}
		if again, err := k.wrap(v["passphrase"], w.Cost, w.salt); err != nil || !bytes.Equal(again, v["wrapped"]) {
			t.Errorf("%s: wrapped again it differs: %v", v["case"], err)
		}
	}
	if good == 0 || bad < good {
		t.Errorf("%d good vectors, %d bad ones", good, bad)
	}
}

// Every bit of a wrapped key matters, and none opens it with less work.
func TestWrappedBits(t *testing.T) {
	k := all(t)[Cut]
	good, err := k.wrap([]byte("x"), cheap, make([]byte, wrapSalt))
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(good) {
		at := bit / 8
		if at == 4 || at == 5 || at == 8 || at == 9 {
			continue // so many passes and so much memory take their time
		}
		b := changed(good, at, good[at]^1<<(bit%8))
		if w, err := parseWrapped(b); err == nil {
			if got, err := w.Open([]byte("x")); err == nil {
				t.Errorf("bit %d flipped: opened as %v", bit, got)
			}
		}
	}
}

func TestWrapFile(t *testing.T) {
	k := all(t)[Read]
	phrase := NewPhrase()
	file, err := k.Wrap(phrase, cheap, made)
	if err != nil {
		t.Fatal(err)
	}
	other, err := k.Wrap(phrase, cheap, made)
	if err != nil || bytes.Equal(file, other) {
		t.Errorf("the same twice: %v", err)
	}
	if bytes.Contains(file, phrase) || bytes.Contains(file, k.field(fIDMeta)) {
		t.Error("a secret stands in the file")
	}
	w, err := ParseWrapped(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := w.Open(append(phrase, '\n'))
	if err != nil || !bytes.Equal(got.body(), k.body()) {
		t.Errorf("opened as %v, %v", got, err)
	}
	if _, err := Parse(file); !errors.Is(err, ErrWrapped) {
		t.Errorf("taken for a key file: %v", err)
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"a key file": {k.Marshal(made), ErrNotWrapped},
		"text":       {[]byte("hello"), ErrNotWrapped},
		"twice":      {append(bytes.Clone(file), file...), ErrTrailing},
		"long":       {append(bytes.Repeat([]byte("x\n"), MaxFile/2), file...), ErrSize},
		"headers":    {pem.EncodeToMemory(&pem.Block{Type: wrapLabel, Headers: map[string]string{"a": "b"}}), ErrNotWrapped},
	} {
		if _, err := ParseWrapped(c.data); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, p := range []string{"", " \n\t", strings.Repeat("x", MaxPhrase+1)} {
		if _, err := k.Wrap([]byte(p), cheap, made); !errors.Is(err, ErrPhrase) {
			t.Errorf("passphrase of %d bytes: %v", len(p), err)
		}
	}
	if _, err := k.Wrap([]byte("x"), Cost{Time: 1, Memory: 31, Threads: 4}, made); !errors.Is(err, ErrCost) {
		t.Errorf("too little memory: %v", err)
	}
}

func TestCost(t *testing.T) {
	if got := cheap.For(3*time.Second, time.Second/2); got.Time != 6 || got.Memory != cheap.Memory {
		t.Errorf("%+v", got)
	}
	if got := cheap.For(time.Second, time.Minute); got.Time != 1 {
		t.Errorf("%+v", got)
	}
	if got := cheap.For(1000*time.Hour, 0); got.Time != maxPasses {
		t.Errorf("%+v", got)
	}
	if _, err := (Cost{}).Pass(); !errors.Is(err, ErrCost) {
		t.Error(err)
	}
	if d, err := cheap.Pass(); err != nil || d <= 0 {
		t.Error(d, err)
	}
}

func TestPhrase(t *testing.T) {
	words := strings.Fields(wordList)
	first := map[string]bool{}
	for _, w := range words {
		first[w[:min(4, len(w))]] = true
	}
	if len(words) != 2048 || len(first) != len(words) {
		t.Errorf("%d words, %d beginnings", len(words), len(first))
	}
	// In each place any word may come, whatever stands in the others: of 4000 draws out of
	// 2048 words about 1760 differ, and of two places hardly ever the same words come.
	var at [PhraseWords]map[string]bool
	pairs := map[[2]int]int{}
	for i := range at {
		at[i] = map[string]bool{}
	}
	for range 4000 {
		p := strings.Split(string(NewPhrase()), " ")
		if len(p) != PhraseWords {
			t.Fatalf("%q", p)
		}
		for i, w := range p {
			at[i][w] = true
			for j := range i {
				if p[j] == w {
					pairs[[2]int{j, i}]++
				}
			}
		}
	}
	for i := range at {
		if len(at[i]) < 1600 {
			t.Errorf("in place %d only %d words come", i, len(at[i]))
		}
	}
	for ij, n := range pairs {
		if n > 40 {
			t.Errorf("places %v have the same word %d times", ij, n)
		}
	}
	if !SamePhrase([]byte(" a  b\n"), []byte("a b")) || SamePhrase([]byte("ab"), []byte("a b")) || SamePhrase(nil, nil) {
		t.Error("white space counts, or does not")
	}
}

// Whatever is parsed, with little work: an error or a key that is wrapped to the
// same bytes again.
func FuzzWrapped(f *testing.F) {
	for _, v := range vectors.Read(f, "crypto/wrapped.txt") {
		f.Add(v["wrapped"], v["passphrase"])
	}
	f.Fuzz(func(t *testing.T, b, phrase []byte) {
		w, err := parseWrapped(b)
		if err != nil || w.Time > 4 || w.Memory > 1024 {
			return
		}
		k, err := w.Open(phrase)
		if err != nil {
			return
		}
		if again, err := k.wrap(phrase, w.Cost, w.salt); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x opens, wrapped again it is %x, %v", b, again, err)
		}
	})
}
