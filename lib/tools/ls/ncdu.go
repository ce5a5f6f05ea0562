package ls

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"preserve/lib/rec"
	"preserve/lib/tool"
)

// An ncdu writes entries in the export format of ncdu (https://dev.yorhel.nl/ncdu/jsonfmt), version
// 1.2: a directory is an array of its own entry and of what is in it. Of the room on a disk nothing is
// known: it is said to be the size.
type ncdu struct {
	begun bool
	dirs  []string // that are open
}

// add appends an entry.
func (n *ncdu) add(b []byte, e *rec.Entry) []byte {
	if !n.begun {
		n.begun = true
		b = fmt.Appendf(b, `[1,2,{"progname":"pv-ls","progver":%q,"timestamp":%d}`, tool.Version, time.Now().Unix())
		b = append(b, ",\n[{\"name\":\"/\"}"...)
	}
	for len(n.dirs) > 0 && !rec.Below(e.Path, n.dirs[len(n.dirs)-1]) {
		b = append(b, ']')
		n.dirs = n.dirs[:len(n.dirs)-1]
	}
	if e.Path == "" {
		return b // it is the outermost directory
	}
	b = append(b, ",\n"...)
	if e.Type == rec.Dir {
		b = append(b, '[')
		n.dirs = append(n.dirs, e.Path)
	}
	b = append(rawText(append(b, `{"name":`...), path.Base(e.Path)), fmt.Sprintf(`,"asize":%d,"dsize":%d`, e.Size, e.Size)...)
	if e.Type != rec.HardLink {
		b = fmt.Appendf(b, `,"uid":%d,"gid":%d,"mode":%d,"mtime":%d`, e.UID, e.GID, modeBits(e), e.MTime.Sec)
	}
	switch e.Type {
	case rec.Dir, rec.File:
	default:
		b = append(b, `,"notreg":true`...)
	}
	if e.Err != "" {
		b = append(b, `,"read_error":true`...)
	}
	return append(b, '}')
}

// end appends what closes the array.
func (n *ncdu) end(b []byte) []byte {
	if !n.begun {
		b = n.add(b, &rec.Entry{Type: rec.Dir})
	}
	return append(b, strings.Repeat("]", len(n.dirs)+1)+"]\n"...)
}

// modeBits is st_mode: ncdu wants the type in it.
func modeBits(e *rec.Entry) uint32 {
	return e.Mode | map[rec.Type]uint32{rec.Dir: 0o040000, rec.File: 0o100000, rec.Symlink: 0o120000,
		rec.Fifo: 0o010000, rec.Socket: 0o140000, rec.Char: 0o020000, rec.Block: 0o060000}[e.Type]
}

// rawText appends a string as ncdu has it: bytes that are not UTF-8 stay as they are.
func rawText(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f:
			b = append(append(b, `\u00`...), strconv.FormatUint(0x100|uint64(c), 16)[1:]...)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
