package rec

import (
	"fmt"
	"math"
	"slices"

	"preserve/lib/wire"
)

var headKeys = []string{"t", "preserve", "kind", "host", "user", "time", "roots", "follow", "chunker", "base", "order", "meta", "nonce"}

func (h *Head) encode(w *wire.Writer) error {
	tree := h.Kind == Tree || h.Kind == Content
	n := 3
	for _, on := range []bool{tree, tree, tree, tree, h.Follow, h.Chunker != nil, len(h.Base) > 0, h.Order != "", h.Meta, len(h.Nonce) > 0} {
		if on {
			n++
		}
	}
	begin(w, n, "head")
	w.Str("preserve")
	w.Uint(Version)
	w.Str("kind")
	w.Str(string(h.Kind))
	if tree {
		w.Str("host")
		w.Str(Text(h.Host))
		w.Str("user")
		w.Str(Text(h.User))
		w.Str("time")
		writeTime(w, h.Time)
		w.Str("roots")
		w.Array(len(h.Roots))
		for _, r := range h.Roots {
			w.Array(2)
			w.BinString(r.Dir)
			w.BinString(r.Path)
		}
	}
	if h.Follow {
		w.Str("follow")
		w.Bool(true)
	}
	if h.Chunker != nil {
		w.Str("chunker")
		EncodeChunker(w, h.Chunker)
	}
	if len(h.Base) > 0 {
		w.Str("base")
		w.Array(len(h.Base))
		for _, b := range h.Base {
			w.Bin(b[:])
		}
	}
	if h.Order != "" {
		w.Str("order")
		w.Str(h.Order)
	}
	if h.Meta {
		w.Str("meta")
		w.Bool(true)
	}
	if len(h.Nonce) > 0 {
		w.Str("nonce")
		w.Bin(h.Nonce)
	}
	return h.check()
}

func (h *Head) check() error {
	tree := h.Kind == Tree || h.Kind == Content
	switch {
	case !tree && h.Kind != Sealed:
		return fmt.Errorf("head: kind %q: %w", h.Kind, ErrUnknown)
	case tree && (h.Order != "" || h.Meta || len(h.Nonce) > 0),
		h.Kind != Content && h.Chunker != nil,
		h.Kind == Tree && len(h.Base) > 0,
		h.Kind != Tree && h.Follow,
		!tree && (h.Host != "" || h.User != "" || h.Time != Time{} || len(h.Roots) > 0):
		return fmt.Errorf("head of a %s stream: a key of another kind: %w", h.Kind, ErrUnknown)
	case h.Kind == Sealed && h.Order != Up && h.Order != Down && h.Order != Asked && h.Order != Loose:
		return fmt.Errorf("head: order %q: %w", h.Order, ErrUnknown)
	case len(h.Base) > MaxBase:
		return fmt.Errorf("head: %d bases: %w of %d", len(h.Base), wire.ErrLimit, MaxBase)
	case len(h.Nonce) != 0 && len(h.Nonce) != NonceSize:
		return fmt.Errorf("head: nonce of %d bytes: %w", len(h.Nonce), ErrBad)
	}
	for _, r := range h.Roots {
		if err := r.Check(); err != nil {
			return fmt.Errorf("head: %w", err)
		}
	}
	return nil
}

func (h *Head) read(c *wire.Cursor, k int) {
	switch headKeys[k] {
	case "preserve":
		if n := c.Uint(math.MaxUint32); c.Err() == nil && n != Version {
			c.Fail(fmt.Errorf("%w: version %d, and this program knows version %d only: use one program version at both ends of the pipe", ErrVersion, n, Version))
		}
	case "kind":
		h.Kind = Kind(c.Str(MaxText))
	case "host":
		h.Host = readText(c)
	case "user":
		h.User = readText(c)
	case "time":
		h.Time = readTime(c)
	case "roots":
		for n := c.Array(MaxSmall); n > 0 && c.Err() == nil; n-- {
			if c.Array(2) != 2 {
				c.Fail(fmt.Errorf("%w: not [directory, path]", ErrBad))
			}
			h.Roots = append(h.Roots, Root{string(c.Bin(MaxPath)), string(c.Bin(MaxPath))})
		}
	case "follow":
		h.Follow = c.Bool()
	case "chunker":
		h.Chunker = DecodeChunker(c)
	case "base":
		for n := c.Array(MaxBase); n > 0 && c.Err() == nil; n-- {
			h.Base = append(h.Base, readID(c))
		}
	case "order":
		h.Order = string(c.Str(MaxText))
	case "meta":
		h.Meta = c.Bool()
	case "nonce":
		h.Nonce = slices.Clone(c.Bin(NonceSize))
	}
}
