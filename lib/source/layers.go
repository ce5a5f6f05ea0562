package source

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLayered is how many overlays may lie on each other. The kernel allows two.
const maxLayered = 4

// layered reports whether the change times of a file on an overlay are real: what
// is in its upper layer has those of that file system, and what is below those of
// the lower layers. A layer that cannot be found has none: an overlay may have been
// mounted where other directories are seen.
func layered(fd, depth int) bool {
	if depth >= maxLayered {
		return false
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return false
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	dirs := layers(string(mounts), mountID(string(info)))
	for _, dir := range dirs {
		if !layer(dir, depth+1) {
			return false
		}
	}
	return len(dirs) > 0
}

// layer reports whether the change times in a layer are real. An empty directory
// is what is left where the layer was unmounted: an overlay does not need it there.
func layer(dir string, depth int) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	if names, err := f.Readdirnames(1); err != nil || len(names) == 0 {
		return false
	}
	what, err := ask(int(f.Fd()), depth)
	return err == nil && what.ChangeTimes
}

// mountID returns the number of a mount from what /proc/self/fdinfo says of a
// file, or "".
func mountID(info string) string {
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// layers returns the lower directories of the overlay that is mounted as id, from
// what /proc/self/mountinfo says, or nil.
func layers(mounts, id string) (dirs []string) {
	for line := range strings.Lines(mounts) {
		words := strings.Fields(line)
		if len(words) < 4 || words[0] != id || words[len(words)-4] != "-" || words[len(words)-3] != "overlay" {
			continue
		}
		for _, option := range divide(Unescape(words[len(words)-1]), ',') {
			name, value, _ := strings.Cut(option, "=")
			switch name {
			case "lowerdir":
				dirs = append(dirs, divide(value, ':')...)
			case "lowerdir+", "datadir+":
				dirs = append(dirs, value)
			}
		}
	}
	var found []string
	for _, dir := range dirs {
		if dir != "" { // between the two colons before a layer of data
			found = append(found, strings.NewReplacer(`\\`, `\`, `\:`, `:`, `\,`, `,`).Replace(dir))
		}
	}
	return found
}

// divide is strings.Split, but for what is behind a backslash.
func divide(s string, at byte) (parts []string) {
	begin := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case at:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	return append(parts, s[begin:])
}

// Unescape undoes the octal numbers that the kernel writes for spaces and the
// like. A backslash of the options themselves is such a number, too.
func Unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
