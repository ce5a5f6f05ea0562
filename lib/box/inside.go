package box

import (
	"encoding/binary"
	"fmt"
)

// appendPlain appends the plaintext of codec ‖ u32 len ‖ len bytes ‖ zeros. There
// is one length of padding, and it is zeros: what a blob can say besides its
// plaintext is its codec and what zstd leaves open.
func (d *decompressor) appendPlain(dst, inside []byte, limit int) ([]byte, error) {
	codec, n := inside[0], binary.BigEndian.Uint32(inside[1:])
	rest := inside[insideHead:]
	if uint64(n) > uint64(len(rest)) || padded(insideHead+int(n)) != len(inside) || !allZero(rest[n:]) {
		return dst, ErrPadding
	}
	body := rest[:n]
	switch {
	case codec == codecStored && len(body) > limit:
		return dst, fmt.Errorf("%d bytes: %w of %d", len(body), ErrLimit, limit)
	case codec == codecStored:
		return append(dst, body...), nil
	case codec == codecZstd:
		return d.decompress(dst, body, limit)
	}
	return dst, fmt.Errorf("codec %d: %w", codec, ErrCodec)
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
