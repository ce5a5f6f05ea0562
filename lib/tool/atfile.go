package tool

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// maxArgFile bounds a file of arguments.
const maxArgFile = 64 << 20

// expand puts the arguments in FILE in the place of each argument @FILE, up to "--".
// They stand one a line, or, if there is a NUL in FILE, each with a NUL after it. What
// begins with @ in FILE is not expanded.
func expand(args []string) ([]string, error) {
	var all []string
	for i, arg := range args {
		if arg == "--" {
			return append(all, args[i:]...), nil
		}
		name, is := strings.CutPrefix(arg, "@")
		if !is || name == "" {
			all = append(all, arg)
			continue
		}
		list, err := argFile(name)
		if err != nil {
			return nil, &UsageError{err.Error()}
		}
		all = append(all, list...)
	}
	return all, nil
}

func argFile(name string) ([]string, error) {
	st, err := os.Stat(name)
	if err == nil && st.Mode().IsRegular() && st.Size() > maxArgFile {
		err = fmt.Errorf("%d bytes, more than %d", st.Size(), maxArgFile)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read arguments from @%s: %w (a word that begins with @ can follow --)", name, err)
	}
	end := []byte("\n")
	if bytes.IndexByte(text, 0) >= 0 {
		end = []byte{0}
	}
	text = bytes.TrimSuffix(text, end)
	if len(text) == 0 {
		return nil, nil
	}
	var list []string
	for arg := range bytes.SplitSeq(text, end) {
		list = append(list, string(arg))
	}
	return list, nil
}
