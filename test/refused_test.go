package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"preserve/lib/rec"
)

// refused [-data] [-key KEY] COMMAND…: forges a snapshot of the commands (see
// forge) with write.key, or KEY, and lets pv-unpack and pv-open restore, list and check it
// with read.key: each must fail with one line and nothing but a line, and leave
// the world as it was. It prints what was said. The command - stands for those on
// stdin. With -data the fault is in the data, of which a list needs nothing. If it is
// that data does not open, the others may also go on, and end with 3 without having
// made a file.
func refused(args []string) error {
	data := len(args) > 0 && args[0] == "-data"
	if data {
		args = args[1:]
	}
	keyFile := "write.key"
	if len(args) > 1 && args[0] == "-key" {
		keyFile, args = args[1], args[2:]
	}
	if len(args) == 0 {
		return errors.New("usage: refused [-data] [-key KEY] COMMAND…")
	}
	var commands io.Reader = strings.NewReader(strings.Join(args, "\n"))
	if args[0] == "-" {
		commands = os.Stdin
	}
	id, stream, err := forged(keyFile, rec.Down, commands)
	if err != nil {
		return err
	}
	before, err := world()
	if err != nil {
		return err
	}
	for _, mode := range []string{"pv-unpack out", "pv-open --meta", "pv-open --check"} {
		name, what, _ := strings.Cut(mode, " ")
		cmd := exec.Command(name, "-q", "-k", "read.key", "--snapshot", id, what)
		var said bytes.Buffer
		cmd.Stdin, cmd.Stderr = bytes.NewReader(stream), &said
		shown, err := cmd.Output()
		if cmd.ProcessState == nil {
			return err
		}
		status, want := cmd.ProcessState.ExitCode(), 1
		switch {
		case data && what == "--meta":
			want = 0
		case data && status == 3:
			want = 3 // it names the blob that does not open, and goes on
		}
		if status != want {
			return fmt.Errorf("%s: status %d\n%s", mode, status, &said)
		}
		if err := oneLine(name, said.String(), want); err != nil {
			return fmt.Errorf("%s: %w\n%q", mode, err, said.String())
		}
		if i := bytes.IndexFunc(shown, control); i >= 0 && what != "--meta" { // that is a stream
			return fmt.Errorf("%s: it prints %q", mode, shown)
		}
		fmt.Printf("%s", &said)
		if err := leftovers("out"); err != nil {
			return err
		}
		if files, _ := filepath.Glob("out/*"); want == 3 && len(files) > 0 { // the pattern is right
			return fmt.Errorf("%s: what was made of data that did not open? %q", mode, files)
		}
		if err := os.RemoveAll("out"); err != nil {
			return err
		}
	}
	after, err := world()
	if err == nil && !slices.Equal(before, after) {
		err = fmt.Errorf("something was changed outside:\n%q\n%q", before, after)
	}
	return err
}

func control(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }

// oneLine checks what a refusal must look like.
func oneLine(name, said string, status int) error {
	switch {
	case status == 0 && said == "":
		return nil
	case strings.IndexFunc(said, control) >= 0:
		return errors.New("a control character in a message")
	case !strings.HasPrefix(said, name+": ") || strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n"):
		return errors.New("not a message of one line")
	case len(said) > 9000:
		return errors.New("a message without end")
	}
	return nil
}

// mark is the name of what a restore that did not end leaves for the next one.
var mark = regexp.MustCompile(`/\.pv-tmp-[0-9a-f]{16}-0$`)

// leftovers looks for temporary files.
func leftovers(dir string) error {
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err == nil && strings.Contains(p, ".pv-tmp-") && !mark.MatchString(p) {
			err = fmt.Errorf("%s was left behind", p)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// world describes all that lies around here, and where /tmp/evil would be.
func world() (lines []string, err error) {
	err = filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if p == ".tmp" {
			return fs.SkipDir
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %v", p, st.Mode())
		if st.Mode().IsRegular() {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %x", sum(b))
		}
		lines = append(lines, line)
		return nil
	})
	for _, p := range []string{"/tmp/evil", "../evil"} {
		if _, serr := os.Lstat(p); serr == nil {
			lines = append(lines, p)
		}
	}
	return lines, err
}
