//go:build system

package systest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// A cell is one thing that a backup must keep, of one type of file: made in a
// directory of its own, and judged by what the judges say of that directory.
type cell struct {
	row  string // its row in docs/fidelity.md: cells of one row differ in type only
	typ  string
	show string // a regular expression: what judges say where the file system holds it
	make func(dir string) error
	// unstorable says that the format has no room for it: the backup says so.
	unstorable bool

	name string // of its directory
}

var allTypes = []string{"file", "directory", "symlink", "fifo", "socket", "char device", "block device"}

var notName = regexp.MustCompile(`[^A-Za-z0-9]+`)

// A table is the cells in the making.
type table struct{ cells []*cell }

func (t *table) add(row, typ, show string, make func(dir string) error) *cell {
	c := &cell{row: row, typ: typ, show: show, make: make}
	slug := strings.Trim(notName.ReplaceAllString(row+" "+typ, "-"), "-")
	c.name = fmt.Sprintf("%03d-%.60s", len(t.cells), slug)
	t.cells = append(t.cells, c)
	return c
}

// each adds a cell for each of the types: a file x with the attributes.
func (t *table) each(row string, types []string, show string, attrs ...attr) {
	for _, typ := range types {
		t.add(row, typ, show, one(typ, attrs...))
	}
}

// fidelityCells are all cells, in the order of the table.
func fidelityCells() []*cell {
	t := &table{}
	t.modes()
	t.owners()
	t.times()
	t.xattrs()
	t.acls()
	t.flags()
	t.names()
	t.links()
	t.devices()
	t.contents()
	t.trees()
	return t.cells
}

func (t *table) modes() {
	for _, m := range []struct {
		mode uint32
		what string
	}{{0, "mode 0000"}, {0o4755, "setuid"}, {0o2755, "setgid"}, {0o1777, "sticky"}, {0o7777, "mode 7777"}} {
		types := allTypes
		if m.mode != 0 && m.mode != 0o7777 {
			types = []string{"file", "directory"}
		}
		for _, typ := range types {
			if typ != "symlink" { // which has no mode
				t.add(m.what, typ, fmt.Sprintf(`x' mode \d+%04o `, m.mode), one(typ, mode(m.mode)))
			}
		}
	}
	t.add("setuid and setgid of another owner", "file", "x' mode 106755 owner 1234:4321 ", one("file", owner(1234, 4321), mode(0o6755)))
}

func (t *table) owners() {
	t.each("owner 1234, group 4321", allTypes, "owner 1234:4321 ", owner(1234, 4321))
	t.each("owner and group 4294967294", allTypes, "owner 4294967294:4294967294 ", owner(4294967294, 4294967294))
	t.each("owner 65535, group 65536", []string{"file", "directory"}, "owner 65535:65536 ", owner(65535, 65536))
}

func (t *table) times() {
	for _, m := range []struct {
		what  string
		sec   int64
		nsec  int64
		types []string
	}{
		{"time with nanoseconds", 1_234_567_890, 123_456_789, allTypes},
		{"time 0", 0, 0, []string{"file", "directory", "symlink"}},
		{"time before 1970, nanoseconds", -2, 999_999_999, allTypes},
		{"time in 1902", -2_140_000_000, 1, []string{"file", "directory", "symlink"}},
		{"time in 1800", -5_364_662_400, 500_000_000, []string{"file", "directory", "symlink"}},
		{"time after 2038", 1 << 31, 1, []string{"file", "directory", "symlink"}},
		{"time after 2106, nanoseconds", 1<<32 + 1, 999_999_999, allTypes},
		{"time in 2446", 15_032_385_534, 999_999_999, []string{"file"}},
		{"time in 2500", 16_725_225_600, 1, []string{"file", "directory", "symlink"}},
		{"time in 10000", 253_402_300_800, 7, []string{"file"}},
	} {
		t.each(m.what, m.types, "x' .* mtime "+nanoseconds(m.sec, m.nsec)+"( |\n)", mtime(m.sec, m.nsec))
	}
}

// nanoseconds writes a time as a number that 64 bits may not hold.
func nanoseconds(sec, nsec int64) string {
	if sec <= 0 {
		return fmt.Sprint(sec*1e9 + nsec)
	}
	return fmt.Sprintf("%d%09d", sec, nsec)
}

func (t *table) xattrs() {
	fileAndDir := []string{"file", "directory"}
	t.each("xattr user", fileAndDir, "user.note=0x74657874", xattr("user.note", "text"))
	t.each("xattr trusted", allTypes, "trusted.note=0x74657874", xattr("trusted.note", "text"))
	t.each("xattr security", allTypes, "security.note=0x74657874", xattr("security.note", "text"))
	t.each("xattr with an empty value", fileAndDir, "(?m)^user.empty(=0x)?$", xattr("user.empty", ""))
	t.each("xattr with a binary value", fileAndDir, "user.binary=0x00ff0a00", xattr("user.binary", "\x00\xff\n\x00"))
	t.each("xattr with a name that is not UTF-8", []string{"file"}, `user\..\\012=`, xattr("user.\xff\n", "v"))
	t.each("xattr with a name of 255 bytes", []string{"file"}, "user.n{250}=", xattr("user."+strings.Repeat("n", 250), "v"))
	t.each("xattr of 3000 bytes", []string{"file", "directory"}, "user.large=0x(6161616161){600}", xattr("user.large", strings.Repeat("a", 3000)))
	t.each("xattr of 60 KiB", []string{"file"}, "trusted.large=0x61616161", xattr("trusted.large", strings.Repeat("a", 60<<10)))
	var many, mass, over []attr
	for i := range 40 {
		many = append(many, xattr(fmt.Sprintf("user.attribute-%02d", i), fmt.Sprint(i)))
	}
	// 1 MiB less the names and a little, in values that btrfs takes; then more.
	for i := range 1046 {
		mass = append(mass, xattr(fmt.Sprintf("trusted.%04d", i), strings.Repeat("v", 980)))
	}
	for i := range 1100 {
		over = append(over, xattr(fmt.Sprintf("trusted.%04d", i), strings.Repeat("v", 1000)))
	}
	t.each("40 xattrs", fileAndDir, "user.attribute-39=", many...)
	t.each("1 MiB of xattrs", []string{"file"}, "trusted.1045=", mass...)
	t.add("more than 1 MiB of xattrs", "file", "trusted.1099=", one("file", over...)).unstorable = true
	t.each("capability", []string{"file"}, "security.capability=0x0100000200200000",
		xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	t.each("capability of another user namespace", []string{"file"}, "security.capability=0x01000003",
		xattr("security.capability", "\x01\x00\x00\x03\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xe8\x03\x00\x00"))
	t.each("capability, owner and setuid", []string{"file"}, "security.capability=0x01000002", owner(1234, 4321), mode(0o4755),
		xattr("security.capability", "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
}

func (t *table) acls() {
	t.each("access list", []string{"file", "directory", "fifo", "socket", "char device"}, "(?m)^user:1234:rw-", acl("u:1234:rw-,g:4321:--x"))
	t.each("access list with a mask", []string{"file", "directory"}, "(?m)^mask::r--", acl("u:1234:rwx,m::r--"))
	t.each("access list of user 4294967294", []string{"file"}, "(?m)^user:4294967294:r--", acl("u:4294967294:r--"))
	t.each("default access list", []string{"directory"}, "(?m)^default:group:4321:rwx", acl("d:g:4321:rwx"))
	t.each("access and default list", []string{"directory"}, "(?m)^default:user:1:r--", acl("u:1234:rwx,d:u:1:r--,d:m::r-x"))
	t.add("file without the list that its directory gives", "file", "(?m)^default:group:4321:rwx", func(dir string) error {
		err := one("directory")(dir)
		if err == nil {
			err = write(dir+"/x/before", 100)
		}
		if err == nil {
			err = acl("d:g:4321:rwx").set(dir+"/x", "directory")
		}
		if err == nil {
			err = write(dir+"/x/behind", 100)
		}
		return err
	})
}

func (t *table) flags() {
	both := []string{"file", "directory"}
	for _, f := range []struct {
		letter, what string
		bit          uint32
		types        []string
	}{
		{"i", "immutable", 0x10, both}, {"a", "append-only", 0x20, both}, {"d", "no dump", 0x40, both},
		{"A", "no atime", 0x80, both}, {"S", "synchronous", 0x8, both}, {"s", "secure deletion", 0x1, both},
		{"u", "undeletable", 0x2, both}, {"c", "compressed", 0x4, both}, {"m", "not to be compressed", 0x400, both},
		{"C", "no copy on write", 0x800000, both}, {"j", "journalled data", 0x4000, both},
		{"D", "synchronous directory", 0x10000, []string{"directory"}}, {"T", "top of a hierarchy", 0x20000, []string{"directory"}},
		{"P", "project inherited", 0x20000000, []string{"directory"}},
	} {
		show := fmt.Sprintf(`(?m)^[-A-Za-z]*%s[-A-Za-z]* \./x$`, f.letter)
		t.each("flag "+f.letter+": "+f.what, f.types, show, inodeFlags(f.bit))
	}
	t.each("flags d, A and S together", both, `(?m)^[-A-Za-z]*S[-A-Za-z]*d[-A-Za-z]*A[-A-Za-z]* \./x$`, inodeFlags(0x40|0x80|0x8))
	t.each("no copy on write, with 5 MB", []string{"file"}, `(?m)^[-A-Za-z]*C[-A-Za-z]* \./x$`, inodeFlags(0x800000), content(5_000_000))
	t.add("immutable directory with files", "directory", `(?m)^[-A-Za-z]*i[-A-Za-z]* \./x$`, full(inodeFlags(0x10)))
	t.add("append-only directory with files", "directory", `(?m)^[-A-Za-z]*a[-A-Za-z]* \./x$`, full(inodeFlags(0x20)))
	t.add("file without the flags that its directory gives", "file", `(?m)^[-A-Za-z]*d[-A-Za-z]* \./x$`, full(inodeFlags(0x40|0x80)))
}

func full(a attr) func(string) error {
	return func(dir string) error {
		if err := os.MkdirAll(dir+"/x/sub", 0o755); err != nil {
			return err
		}
		if err := write(dir+"/x/in", 100); err != nil {
			return err
		}
		if err := write(dir+"/x/sub/in", 0); err != nil {
			return err
		}
		return a.set(dir+"/x", "directory")
	}
}
