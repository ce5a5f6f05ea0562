package box

import (
	"fmt"
	"hash/crc32"

	"preserve/lib/id"
)

// A Sum is a checksum of references and plaintext, against damage in memory only.
type Sum uint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// SumOf returns the Sum that Check wants. It is to be taken before the blob is named: what
// changes in memory from then on is found.
func SumOf(refs, plain []byte) Sum {
	return Sum(crc32.Update(crc32.Checksum(refs, castagnoli), castagnoli, plain))
}

// Check opens data, which Seal has made, as a reader will, and reports nil if that and refs
// have the Sum that SumOf gave before Name was called. So a bit that has flipped meanwhile, in
// the plaintext, in the compressor or in what was sealed, and a compressor that errs, are found
// while the true bytes can still be had; but for one error in four thousand million of those
// that change more than 32 bits in a row. It does not compute the id again: that costs as much
// as all the rest, and finds only a processor that errs in SHA-256.
//
// Errors: ErrKind, ErrRefs, and ErrAltered for everything else. Nothing is kept.
func (s *Sealer) Check(sum Sum, kind uint8, i id.ID, refs, data []byte) error {
	if err := checkShape(kind, refs); err != nil {
		return err
	}
	aead, err := s.session.aead(kind, s.sid, i)
	if err != nil {
		return err
	}
	room := s.room()
	defer s.rooms.Put(room)
	if len(data) < overhead+insideHead {
		return fmt.Errorf("%w: %d sealed bytes", ErrAltered, len(data))
	}
	inside, err := aead.Open(room.inside[:0], data[:nonceSize], data[nonceSize:], headOf(kind, refs))
	if err != nil {
		return fmt.Errorf("%w: the sealed form does not open", ErrAltered)
	}
	room.inside = inside
	out, err := s.unzip.appendPlain(room.plain[:0], inside, maxPlain(kind))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAltered, err)
	}
	room.plain = out
	if SumOf(refs, out) != sum {
		return fmt.Errorf("%w: the sealed form holds something else", ErrAltered)
	}
	return nil
}

// A room is memory of one Seal or Check.
type room struct{ inside, plain []byte }

func (s *Sealer) room() *room {
	if r, ok := s.rooms.Get().(*room); ok {
		return r
	}
	return new(room)
}
