package check

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"preserve/lib/id"
	"preserve/lib/store"
	"preserve/lib/tool"
)

// A part says of which packs of data the blobs are read.
type part struct {
	n, of uint64  // part n, from 1, of so many; of is 0 for none
	share float64 // or so much, of packs drawn by lot; negative if it is not that
	size  uint64  // or so many bytes; 0 if it is not that
}

func parsePart(s string) (*part, error) {
	p := &part{share: -1}
	switch {
	case s == "all":
		p.n, p.of = 1, 1
		return p, nil
	case s == "none":
		return p, nil
	case strings.HasSuffix(s, "%"):
		share, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		if err == nil && share > 0 && share <= 100 {
			p.share = share / 100
			return p, nil
		}
	case strings.Contains(s, "/"):
		n, of, _ := strings.Cut(s, "/")
		var nerr, oerr error
		p.n, nerr = strconv.ParseUint(n, 10, 32)
		p.of, oerr = strconv.ParseUint(of, 10, 32)
		if nerr == nil && oerr == nil && p.n > 0 && p.n <= p.of {
			return p, nil
		}
	default:
		if size, err := tool.ParseSize(s); err == nil && size > 0 {
			p.size = uint64(size)
			return p, nil
		}
	}
	return nil, tool.Usagef("--data %s: not all, none, N/M, P%% or a size", s)
}

// measure turns a size into a share of what the packs have.
func (p *part) measure(r *store.Repo) error {
	if p.size == 0 {
		return nil
	}
	var all uint64
	err := r.EachPack(func(name id.ID) error {
		f, err := r.OpenPack(name)
		if err != nil {
			return nil // the check says so
		}
		defer f.Close()
		all += uint64(f.Info().Size)
		return nil
	})
	p.share = min(1, float64(p.size)/float64(max(all, 1)))
	return err
}

// has reports whether a pack is read. Names of packs are as good as random: each part has
// about as many.
func (p *part) has(name id.ID, _ int64) bool {
	if p.share < 0 {
		return p.of > 0 && binary.BigEndian.Uint64(name[:])%p.of == p.n-1
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return float64(binary.BigEndian.Uint64(b[:]))/math.MaxUint64 < p.share
}
