// Package diff is pv-diff: it says what differs between two trees, each a tree stream, a content
// stream, or (one of them) a directory as it is now.
package diff

import (
	"fmt"
	"io"
	"os"

	"preserve/lib/confine"
	"preserve/lib/reading"
	"preserve/lib/tool"
)

const usage = `usage: pv-get REPO ID | pv-open -k READKEY | pv-diff - DIR
       pv-open -k KEY --from REPO --snapshot ID --meta | pv-diff - DIR
       pv-diff [--numeric-ids] A B

Says what differs between A and B, a line for each difference: "-" is stdin, a directory is
the tree that is below it now, anything else is the file of a stream. One of the two is a
stream at least. Contents are compared where both have them: a tree stream has none. It
needs no key, and writes nothing.

  --numeric-ids           with a directory: compare owners by number; else a user of the
                          stream is the one who has the same name here
  --map-user A:B, --map-group A:B
                          what is A's in the stream is to be B's here: names or
                          numbers (may be repeated)
  -v, -q                  say more, say only errors and warnings

Exit status 3: something differs.
`

// Run is pv-diff.
func Run(env *tool.Env) error {
	env.DropKey()
	var choice reading.Choice
	fs := env.Flags()
	choice.OwnerFlags(fs)
	words, err := env.Parse(fs, usage)
	if err != nil {
		return err
	}
	if len(words) != 2 {
		return tool.Usagef("two trees are needed: each a stream's file, - or a directory")
	}
	dirs := [2]bool{isDir(words[0]), isDir(words[1])}
	switch {
	case words[0] == "-" && words[1] == "-":
		return tool.Usagef("stdin can be read once")
	case dirs[0] && dirs[1]:
		return tool.Usagef("%q and %q are both directories: one of the two must be a stream (pv-scan DIR writes one)", words[0], words[1])
	}
	mode := &reading.Mode{Owns: dirs[0] || dirs[1]}
	if !mode.Owns && (choice.Numeric || len(choice.MapUsers)+len(choice.MapGroups) > 0) {
		return tool.Usagef("--numeric-ids, --map-user and --map-group go with a directory: of two streams the numbers are compared")
	}
	var streams []stream
	for i, word := range words {
		if dirs[i] {
			continue
		}
		choose, err := reading.NewChooser(env, mode, &choice)
		if err != nil {
			return err
		}
		in, err := input(env, word)
		if err != nil {
			return err
		}
		if f, ok := in.(io.Closer); ok && word != "-" {
			defer f.Close()
		}
		streams = append(streams, stream{reading.Base{Env: env, Choose: choose}, reading.NewStream(in, choose)})
	}
	env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
	switch {
	case dirs[1]:
		err = streams[0].compare(words[1], false)
	case dirs[0]:
		err = streams[0].compare(words[0], true)
	default:
		return both(env, streams[0], streams[1])
	}
	if err == nil {
		streams[0].base.Choose.End()
	}
	return err
}

// A stream is one of the two trees.
type stream struct {
	base reading.Base
	src  *reading.Stream
}

// isDir reports whether a word on the command line is a directory. What is not there is said when it
// is opened.
func isDir(word string) bool {
	st, err := os.Stat(word)
	return word != "-" && err == nil && st.IsDir()
}

// input opens a stream.
func input(env *tool.Env, word string) (io.Reader, error) {
	if word == "-" {
		return env.Input()
	}
	f, err := os.Open(word)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	return f, nil
}
