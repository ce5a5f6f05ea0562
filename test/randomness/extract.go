package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A blob is one sealed form: a nonce of 12 bytes and what the AEAD made. Of a
// session it is the last 48 bytes of one of its two halves, what seals the secret;
// the encapsulated keys before it are no noise: numbers below a modulus.
type blob struct {
	data    []byte
	session bool
}

// sealed calls each with all sealed forms in the packs of a repository
// (docs/format/repository.md, "Packs"), in an order that may differ between runs.
func sealed(repo string, each func(blob) error) error {
	found := false
	err := filepath.WalkDir(filepath.Join(repo, "packs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found = true
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pack(bufio.NewReaderSize(f, 1<<20), each); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s: no pack is there", repo)
	}
	return err
}

func pack(r *bufio.Reader, each func(blob) error) error {
	for {
		record, err := readMap(r)
		if err != nil {
			return err
		}
		data := record["data"]
		switch string(record["t"]) {
		case "head", "toc":
		case "session":
			const half = 1120 + 48
			if len(data) != 13+2*half {
				return fmt.Errorf("a session of %d bytes", len(data))
			}
			for _, end := range []int{len(data) - half, len(data)} {
				if err := each(blob{data[end-48 : end], true}); err != nil {
					return err
				}
			}
		case "blob":
			if len(data) < 12+16+5 {
				return fmt.Errorf("a blob of %d bytes", len(data))
			}
			if err := each(blob{data: data}); err != nil {
				return err
			}
		case "end":
			if _, err := r.ReadByte(); err != io.EOF {
				return errors.New("something is behind the end")
			}
			return nil
		default:
			return fmt.Errorf("a record %q", record["t"])
		}
	}
}

// readMap reads one msgpack map. Numbers and lists, which nobody here asks for,
// have empty values.
func readMap(r *bufio.Reader) (map[string][]byte, error) {
	c, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	if c&0xf0 != 0x80 {
		return nil, fmt.Errorf("byte %#x where a record begins", c)
	}
	m := make(map[string][]byte)
	for range c & 15 {
		key, err := readValue(r)
		if err != nil {
			return nil, err
		}
		if m[string(key)], err = readValue(r); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func readValue(r *bufio.Reader) ([]byte, error) {
	c, err := r.ReadByte()
	if err != nil {
		return nil, err
	}
	size := map[byte]int{0xc4: 1, 0xc5: 2, 0xc6: 4, 0xd9: 1, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8}[c]
	n := 0
	switch {
	case c < 0x80 || c == 0x90 || c == 0xc3: // a small number, an empty list, true
		return nil, nil
	case c&0xe0 == 0xa0:
		n = int(c & 31)
	case size == 0:
		return nil, fmt.Errorf("a value that begins with %#x", c)
	default:
		var num [8]byte
		if _, err := io.ReadFull(r, num[8-size:]); err != nil {
			return nil, err
		}
		if c >= 0xcc && c <= 0xcf {
			return nil, nil
		}
		n = int(binary.BigEndian.Uint64(num[:]))
	}
	if n > 21<<20 {
		return nil, fmt.Errorf("a value of %d bytes", n)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return b, err
}
