package tarball

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"preserve/lib/rec"
)

// What fits into the fields of a header's block.
const (
	nameSize   = 100
	ownerSize  = 31
	maxOctal7  = 1<<21 - 1
	maxOctal11 = 1<<33 - 1
)

// A ustar is what the block of a header says. What does not fit stands there cut
// short, and whole in an extended header.
type ustar struct {
	name, link     string
	flag           byte
	mode, uid, gid uint32
	size           int64
	mtime          rec.Time
	uname, gname   string
	major, minor   uint32
}

// header writes the extended header, if there is anything to say in it, and the
// block.
func (w *Writer) header(b *ustar, r *records) error {
	if text := r.bytes(); len(text) > 0 {
		x := &ustar{name: "PaxHeaders/" + base(strings.TrimSuffix(b.name, "/")), flag: 'x', mode: 0o644, size: int64(len(text)), mtime: b.mtime}
		for _, p := range [][]byte{x.encode(), text, zeroes[:-len(text)&(blockSize-1)]} {
			if _, err := w.w.Write(p); err != nil {
				return err
			}
		}
	}
	_, err := w.w.Write(b.encode())
	return err
}

// encode returns the block: IEEE Std 1003.1, pax, "ustar Interchange Format".
func (b *ustar) encode() []byte {
	p := make([]byte, blockSize)
	copy(p[:nameSize], plain(b.name))
	octal(p[100:108], uint64(b.mode))
	octal(p[108:116], uint64(b.uid))
	octal(p[116:124], uint64(b.gid))
	octal(p[124:136], uint64(b.size))
	octal(p[136:148], uint64(max(0, b.mtime.Sec)))
	p[156] = b.flag
	copy(p[157:157+nameSize], plain(b.link))
	copy(p[257:], "ustar\x0000")
	copy(p[265:265+ownerSize], plain(b.uname))
	copy(p[297:297+ownerSize], plain(b.gname))
	if b.flag == '3' || b.flag == '4' {
		octal(p[329:337], uint64(b.major))
		octal(p[337:345], uint64(b.minor))
	}
	copy(p[148:156], "        ")
	sum := uint64(0)
	for _, c := range p {
		sum += uint64(c)
	}
	octal(p[148:155], sum)
	return p
}

// octal fills a field with digits and a NUL; what is too large is the largest
// number that fits.
func octal(field []byte, n uint64) {
	digits := len(field) - 1
	n = min(n, 1<<(3*digits)-1)
	copy(field, fmt.Sprintf("%0*o", digits, n))
}

// plain makes text fit for readers that do not know extended headers.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 0 || r >= utf8.RuneSelf {
			return '_'
		}
		return r
	}, s)
}

// records are those of an extended header: "length key=value\n".
type records struct {
	b      []byte
	binary bool // some text is to be taken as it is
}

func (r *records) add(key, value string) {
	n := len(key) + len(value) + len(" =\n")
	// The length counts its own digits.
	size := n + len(strconv.Itoa(n))
	size = n + len(strconv.Itoa(size))
	r.b = strconv.AppendInt(r.b, int64(size), 10)
	r.b = append(r.b, ' ')
	r.b = append(r.b, key...)
	r.b = append(r.b, '=')
	r.b = append(r.b, value...)
	r.b = append(r.b, '\n')
}

// text adds a record that readers take for UTF-8 if they are not told otherwise.
// They are of what is not, and of what bsdtar would compose: it takes e and an
// accent for the one letter that looks the same.
func (r *records) text(key, value string) {
	r.binary = r.binary || !utf8.ValidString(value) || strings.ContainsFunc(value, func(c rune) bool {
		return unicode.Is(unicode.M, c) || c >= 0x1160 && c <= 0x11ff // vowels and finals of Hangul
	})
	r.add(key, value)
}

func (r *records) bytes() []byte {
	if !r.binary {
		return r.b
	}
	all := &records{}
	all.add("hdrcharset", "BINARY")
	return append(all.b, r.b...)
}

// The words of bsdtar for inode flags, by the flags of linux/fs.h.
var flagTexts = []struct {
	bit  uint32
	word string
}{
	{0x1, "secdel"}, {0x2, "undel"}, {0x4, "compress"}, {0x8, "sync"}, {0x10, "schg"}, {0x20, "sappnd"},
	{0x40, "nodump"}, {0x80, "noatime"}, {0x4000, "journal"}, {0x8000, "notail"}, {0x10000, "dirsync"},
	{0x20000, "topdir"}, {0x800000, "nocow"}, {0x20000000, "projinherit"},
}

// flagWords writes inode flags with commas between them.
func flagWords(flags uint32) string {
	var words []string
	for _, f := range flagTexts {
		if flags&f.bit != 0 {
			words = append(words, f.word)
		}
	}
	return strings.Join(words, ",")
}
