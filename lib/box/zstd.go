package box

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// window is how far back compression looks. Groups of small files and pages are
// smaller, most chunks little larger; a larger one costs memory only.
const window = 4 << 20

// workers is how many blobs are compressed, or decompressed, at a time; each
// takes a few MB. More callers than that wait for each other.
func workers() int { return min(runtime.GOMAXPROCS(0), 16) }

// A compressor makes zstd frames. It is safe for concurrent use.
type compressor struct{ enc *zstd.Encoder }

func newCompressor(level Level) (*compressor, error) {
	z, ok := map[Level]zstd.EncoderLevel{
		Fastest: zstd.SpeedFastest, Default: zstd.SpeedDefault, Better: zstd.SpeedBetterCompression,
	}[level]
	if !ok {
		return nil, fmt.Errorf("compression level %d: %w", level, ErrCodec)
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(z),
		zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true), // 1 MB less for each worker, no slower
		zstd.WithEncoderConcurrency(workers()),
		zstd.WithSingleSegment(true), // tells the content's size, always
		zstd.WithEncoderCRC(false),   // the AEAD and the id vouch for it
	)
	return &compressor{enc}, err
}

// maxSize is the most that compress appends for n bytes.
func (c *compressor) maxSize(n int) int { return c.enc.MaxEncodedSize(n) }

// compress appends one zstd frame with plain in it.
func (c *compressor) compress(dst, plain []byte) []byte { return c.enc.EncodeAll(plain, dst) }

// A decompressor opens zstd frames. It is safe for concurrent use.
type decompressor struct{ dec *zstd.Decoder }

func newDecompressor() (*decompressor, error) {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(workers()),
		zstd.WithDecoderMaxMemory(MaxData),
		zstd.WithDecodeAllCapLimit(true),
	)
	return &decompressor{dec}, err
}

// slack is room behind the output that lets the decoder copy in larger steps.
const slack = 16

// decompress appends the content of b, which must be exactly one zstd frame
// without dictionary that tells its content's size, of at most limit bytes. No
// more memory is taken than that size. Errors: ErrCodec, ErrLimit; dst is then
// returned as it was.
func (d *decompressor) decompress(dst, b []byte, limit int) ([]byte, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return dst, fmt.Errorf("%w: %v", ErrCodec, err)
	}
	switch {
	case h.Skippable, h.DictionaryID != 0, !h.HasFCS, !oneFrame(b, &h):
		return dst, fmt.Errorf("not one zstd frame of known size: %w", ErrCodec)
	case h.FrameContentSize > uint64(limit):
		return dst, fmt.Errorf("%d bytes: %w of %d", h.FrameContentSize, ErrLimit, limit)
	}
	n, size := len(dst), int(h.FrameContentSize)
	dst = slices.Grow(dst, size+slack)
	out, err := d.dec.DecodeAll(b, dst[n:n:n+size+slack])
	if err != nil || len(out) != size {
		return dst, fmt.Errorf("%w: %v", ErrCodec, err)
	}
	return dst[:n+size], nil
}

// maxBlock is the Block_Maximum_Size of RFC 8878, 3.1.1.2.4, where no window is smaller.
const maxBlock = 128 << 10

// oneFrame reports whether b is the frame that begins with h and no byte more, and whether no
// block is larger than Block_Maximum_Size: RFC 8878, 3.1.1. The decoder would go on to a second
// frame, and takes blocks of up to 1 KiB in any frame.
func oneFrame(b []byte, h *zstd.Header) bool {
	most := uint64(maxBlock)
	if h.SingleSegment { // the window is the content
		most = min(most, h.FrameContentSize)
	} else {
		most = min(most, h.WindowSize)
	}
	at := h.HeaderSize
	for last := false; !last; {
		if len(b)-at < 3 {
			return false
		}
		head := int(b[at]) | int(b[at+1])<<8 | int(b[at+2])<<16
		last = head&1 == 1
		size := head >> 3
		if uint64(size) > most {
			return false
		}
		const rle = 1 // one byte, repeated
		if head>>1&3 == rle {
			size = 1
		}
		if at += 3 + size; at > len(b) {
			return false
		}
	}
	if h.HasCheckSum {
		at += 4
	}
	return at == len(b)
}
