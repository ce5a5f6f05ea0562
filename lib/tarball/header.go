package tarball

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	"preserve/lib/rec"
)

// Limits of what one member may say of itself, checked before memory is taken.
const (
	maxExtended = 16 << 20 // bytes of a PAX header: attributes, a sparse map
	maxLong     = 1 << 20  // bytes of a GNU long name
	maxGlobal   = 1 << 20  // bytes of PAX headers that hold for all members

	maxGlobalKeys = 1024    // in them
	maxKeys       = 1 << 16 // in all extended headers that hold for one member
)

// A header is what stands before a member: its own block and the extended ones.
type header struct {
	name, link   string
	flag         byte
	mode         int64
	uid, gid     int64
	size         int64 // of what follows in the archive
	mtime        rec.Time
	uname, gname string
	major, minor int64
	pax          map[string]string
	block        [blockSize]byte
}

// next reads the next header. io.EOF is the end that an archive says; an
// archive that just stops is ErrCut.
func (a *Archive) next() (*header, error) {
	h := &header{}
	longName, longLink := "", ""
	var own []byte // the records of this member alone; of several headers the later ones go first
	for {
		if err := a.block(h); err != nil {
			return nil, err
		}
		if err := h.parse(); err != nil {
			return nil, err
		}
		switch h.flag {
		case 'x', 'X':
			b, err := a.special(h, maxExtended-int64(len(own)))
			if err != nil {
				return nil, err
			}
			own, a.extended = append(own, b...), true
		case 'g':
			a.extended = true
			if err := a.globals(h); err != nil {
				return nil, err
			}
		case 'L', 'K':
			b, err := a.special(h, maxLong)
			if err != nil {
				return nil, err
			}
			if h.flag == 'L' {
				longName = text(b)
			} else {
				longLink = text(b)
			}
		default:
			if longName != "" {
				h.name = longName
			}
			if longLink != "" {
				h.link = longLink
			}
			h.pax = maps.Clone(a.global)
			if err := merge(own, h.pax); err != nil {
				return nil, err
			}
			return h, h.extend()
		}
	}
}

// block reads a header's own block into h.
func (a *Archive) block(h *header) error {
	if err := a.raw.all(h.block[:]); err != nil {
		return err
	}
	if h.block == ([blockSize]byte{}) {
		// Two blocks of zeros end an archive; some programs write one.
		return errEnd
	}
	if h.checksum() != nil {
		return notTar(h.block[:], a.members == 0)
	}
	return nil
}

var errChecksum = fmt.Errorf("%w: checksum mismatch", ErrBad)

// checksum reports whether a header's own block has the checksum that it says.
func (h *header) checksum() error {
	sum, signed := int64(0), int64(0)
	for i, c := range h.block {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
		signed += int64(int8(c))
	}
	said, err := number(h.block[148:156])
	if err != nil || said != sum && said != signed {
		return errChecksum
	}
	return nil
}

// notTar says what a block is that is no header.
func notTar(b []byte, first bool) error {
	if first {
		for _, z := range []struct{ magic, name, tool string }{
			{"\x1f\x8b", "gzip", "gunzip"}, {"\x28\xb5\x2f\xfd", "zstd", "zstd -d"},
			{"\xfd7zXZ\x00", "xz", "xz -d"}, {"BZh", "bzip2", "bunzip2"},
		} {
			if bytes.HasPrefix(b, []byte(z.magic)) {
				return fmt.Errorf("%w: it is compressed with %s: put %q before this program", ErrBad, z.name, z.tool)
			}
		}
	}
	return fmt.Errorf("%w: the checksum of a header does not hold", ErrBad)
}

// special reads the content of a header that only describes the next one.
func (a *Archive) special(h *header, limit int64) ([]byte, error) {
	if h.size > limit {
		return nil, fmt.Errorf("%w: a header of type %q with %d bytes, more than %d", ErrBad, h.flag, h.size, limit)
	}
	b := make([]byte, h.size)
	if err := a.raw.all(b); err != nil {
		return nil, err
	}
	return b, a.raw.pad(h.size)
}

// globals reads a PAX header that holds for all members behind it.
func (a *Archive) globals(h *header) error {
	b, err := a.special(h, maxGlobal)
	if err != nil {
		return err
	}
	if err := merge(b, a.global); err != nil {
		return err
	}
	total := 0
	for k, v := range a.global {
		total += len(k) + len(v)
	}
	if total > maxGlobal || len(a.global) > maxGlobalKeys {
		return fmt.Errorf("%w: global headers of %d bytes with %d keys, more than %d with %d", ErrBad, total, len(a.global), maxGlobal, maxGlobalKeys)
	}
	return nil
}

// merge reads the records of a PAX header into m, up to maxKeys there. An empty
// value takes a key back.
func merge(b []byte, m map[string]string) error {
	var sparse strings.Builder
	for len(b) > 0 {
		key, value, rest, err := record(b)
		if err != nil {
			return err
		}
		b = rest
		switch {
		case key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes":
			// Of format 0.0, which repeats them: the same as the map of 0.1.
			if sparse.Len() > 0 {
				sparse.WriteByte(',')
			}
			sparse.WriteString(value)
		case value == "" && !strings.HasPrefix(key, xattrSchily) && !strings.HasPrefix(key, xattrLibarchive):
			delete(m, key)
		default:
			m[key] = value
		}
		if len(m) > maxKeys {
			return fmt.Errorf("%w: extended headers with more than %d keys", ErrBad, maxKeys)
		}
	}
	if sparse.Len() > 0 {
		m["GNU.sparse.map"] = sparse.String()
	}
	return nil
}

var errRecord = fmt.Errorf("%w: an extended header that is none", ErrBad)

// record takes "length key=value\n" from the beginning of b.
func record(b []byte) (key, value string, rest []byte, err error) {
	digits, _, ok := bytes.Cut(b[:min(len(b), 20)], []byte(" "))
	if !ok {
		return "", "", nil, errRecord
	}
	n, perr := strconv.ParseUint(string(digits), 10, 31)
	if perr != nil || int(n) > len(b) || int(n) < len(digits)+3 || b[n-1] != '\n' {
		return "", "", nil, errRecord
	}
	k, v, ok := bytes.Cut(b[len(digits)+1:n-1], []byte("="))
	if !ok || len(k) == 0 {
		return "", "", nil, errRecord
	}
	return string(k), string(v), b[n:], nil
}

// text is a field up to its first NUL.
func text(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// number is a field in octal, or in binary with its highest bit set.
func number(b []byte) (int64, error) {
	if b[0]&0x80 != 0 {
		n := int64(b[0] & 0x3f)
		if b[0]&0x40 != 0 {
			n -= 0x40
		}
		for _, c := range b[1:] {
			if n > math.MaxInt64>>8 || n < math.MinInt64>>8 {
				return 0, fmt.Errorf("%w: a number of more than 63 bits", ErrBad)
			}
			n = n<<8 | int64(c)
		}
		return n, nil
	}
	s := strings.Trim(text(bytes.TrimLeft(b, " \x00")), " ")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 8, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: a number %q", ErrBad, s)
	}
	return n, nil
}

// parse takes apart the header's own block.
func (h *header) parse() error {
	b := h.block[:]
	h.name, h.link, h.flag = text(b[:100]), text(b[157:257]), b[156]
	h.uname, h.gname, h.major, h.minor = "", "", 0, 0
	var sec int64
	fields := []field{{&h.mode, b[100:108]}, {&h.uid, b[108:116]}, {&h.gid, b[116:124]}, {&h.size, b[124:136]}, {&sec, b[136:148]}}
	if string(b[257:262]) == "ustar" {
		h.uname, h.gname = text(b[265:297]), text(b[297:329])
		if h.flag == '3' || h.flag == '4' {
			fields = append(fields, field{&h.major, b[329:337]}, field{&h.minor, b[337:345]})
		}
		if prefix := text(b[345:500]); b[262] == 0 && prefix != "" {
			if string(b[508:512]) == "tar\x00" { // star keeps times behind a shorter one
				prefix = text(b[345:476])
			}
			h.name = prefix + "/" + h.name
		}
	}
	for _, f := range fields {
		n, err := number(f.from)
		if err != nil {
			return err
		}
		*f.to = n
	}
	h.mtime = rec.Time{Sec: sec}
	if h.size < 0 {
		return fmt.Errorf("%w: a member of %d bytes", ErrBad, h.size)
	}
	return nil
}

type field struct {
	to   *int64
	from []byte
}

// extend lets PAX records replace what the block says.
func (h *header) extend() (err error) {
	for key, value := range h.pax {
		switch key {
		case "path":
			h.name = value
		case "linkpath":
			h.link = value
		case "uname":
			h.uname = value
		case "gname":
			h.gname = value
		case "uid":
			h.uid, err = decimal(value)
		case "gid":
			h.gid, err = decimal(value)
		case "size":
			h.size, err = decimal(value)
		case "SCHILY.devmajor":
			h.major, err = decimal(value)
		case "SCHILY.devminor":
			h.minor, err = decimal(value)
		case "mtime":
			if t, terr := moment(value); terr == nil { // else the block's has to do, as for GNU tar
				h.mtime = t
			}
		}
		if err != nil {
			return fmt.Errorf("%w: %s %q in an extended header", ErrBad, key, value[:min(len(value), 40)])
		}
	}
	return nil
}

// decimal is a number that is not negative.
func decimal(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err
}

// moment is a time in decimal seconds, before 1970 too. What is finer than a
// nanosecond is cut off.
func moment(s string) (rec.Time, error) {
	whole, part, _ := strings.Cut(s, ".")
	negative := strings.HasPrefix(whole, "-")
	sec, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return rec.Time{}, err
	}
	nsec, err := strconv.ParseUint((part + "000000000")[:9], 10, 32)
	if err != nil || strings.Trim(part, "0123456789") != "" {
		return rec.Time{}, ErrBad
	}
	if negative && nsec > 0 {
		if sec == math.MinInt64 {
			return rec.Time{}, ErrBad
		}
		return rec.Time{Sec: sec - 1, Nsec: uint32(1e9 - nsec)}, nil
	}
	return rec.Time{Sec: sec, Nsec: uint32(nsec)}, nil
}
