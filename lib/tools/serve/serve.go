// Package serve is pv-serve: what the holder of an ssh key may do with a
// repository. It stands in authorized_keys as a forced command, takes from
// SSH_ORIGINAL_COMMAND one of the few command lines that the scripts send, and
// becomes pv-put or pv-get. Whatever else comes is refused, and nothing of it is
// ever given to a shell.
package serve

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/tool"
)

const usage = `usage: pv-serve --as NAME --allow put,has[,heal][,get] [--max-bytes SIZE]
                [--idle DURATION] REPO

    in authorized_keys, one line for each client:
    restrict,command="pv-serve --as web --allow put,has /srv/web" ssh-ed25519 A…

sshd runs it in place of what the client asks for. The client can put snapshots
into REPO, an absolute path, or read it, and nothing else: it can change and
remove nothing that is stored. REPO/log says who stored what.

  --as NAME         what the repository's lists and its log call the client
  --allow LIST      put: store snapshots; has: ask which of them are there;
                    heal: with put, add blobs that belong to no snapshot;
                    get: read everything, sealed as it is
  --max-bytes SIZE  store no more when the files of REPO would have more in all:
                    bytes, or a number with K, M, G or T
  --idle DURATION   end a run in which no blob arrives, or nothing is asked and
                    taken, for so long (default 1h; 0: never)
  -v, -q            say more, say only errors and warnings
`

// variable is where sshd leaves the client's command.
const variable = "SSH_ORIGINAL_COMMAND"

// maxCommand bounds the client's command: pv-get --has takes a list of ids.
const maxCommand = 64 << 10

// errRefused is what a client is told whose command is none of those allowed.
var errRefused = errors.New("not allowed here")

// Run is pv-serve.
func Run(env *tool.Env) error {
	env.DropKey()
	argv, err := command(env, os.Getenv(variable))
	if err != nil {
		return err
	}
	// The tools stand beside this one, or on the PATH of the account.
	file, err := find(argv[0])
	if err != nil {
		return fmt.Errorf("find %s: %w", argv[0], err)
	}
	return fmt.Errorf("run %s: %w", file, unix.Exec(file, argv, environment(os.Environ())))
}

// command returns what to run, from the command line and what the client asks for.
func command(env *tool.Env, asked string) ([]string, error) {
	fs := env.Flags()
	as := fs.String("as", "", "")
	allow := fs.String("allow", "", "")
	maxBytes := fs.String("max-bytes", "", "")
	idle := tool.Duration(fs, "idle", time.Hour)
	words, err := env.Parse(fs, usage)
	if err != nil {
		return nil, err
	}
	allowed := strings.Split(*allow, ",")
	for _, a := range allowed {
		if a != "put" && a != "has" && a != "get" && a != "heal" {
			return nil, tool.Usagef("--allow takes a list of put, has, heal, get")
		}
	}
	switch {
	case slices.Contains(allowed, "heal") && !slices.Contains(allowed, "put"):
		return nil, tool.Usagef("--allow: heal goes with put")
	case len(words) != 1 || !filepath.IsAbs(words[0]):
		return nil, tool.Usagef("give one repository, by its absolute path")
	case *as == "":
		return nil, tool.Usagef("--as is missing")
	}
	if *maxBytes != "" {
		if _, err := tool.ParseSize(*maxBytes); err != nil {
			return nil, tool.Usagef("--max-bytes: %v", err)
		}
	}
	r := request{repo: words[0], allowed: allowed}
	if err := r.read(asked); err != nil {
		return nil, hint(err, words[0])
	}
	argv := []string{r.tool}
	if r.talk != "" {
		argv = append(argv, r.talk)
	}
	if r.tool == "pv-put" {
		argv = append(argv, "--as", *as, "--log")
		if !slices.Contains(allowed, "heal") {
			argv = append(argv, "--no-loose")
		}
		if *maxBytes != "" {
			argv = append(argv, "--max-bytes", *maxBytes)
		}
	}
	if *idle != 0 {
		argv = append(argv, "--idle", idle.String())
	}
	argv = append(append(argv, r.options...), "--", words[0])
	if r.id != "" {
		argv = append(argv, r.id)
	}
	return argv, nil
}

// hint says what to do about a refusal.
func hint(err error, repo string) error {
	var right *rightError
	if errors.As(err, &right) {
		return &tool.Hint{Err: err, Text: "the server's administrator gives rights with pv-serve --allow"}
	}
	return &tool.Hint{Err: err, Text: "this account serves one repository of Preserve: use ssh://HOST" + repo + " as REPO"}
}

// A rightError is a request that is well-formed, and takes a right that the account
// does not have.
type rightError struct {
	asked, right string
	allowed      []string
}

func (e *rightError) Error() string {
	return fmt.Sprintf("%q: %v: it takes the right %q, and this account may only %s", tool.Mask(e.asked), errRefused, e.right, strings.Join(e.allowed, " and "))
}

func (e *rightError) Unwrap() error { return errRefused }

// environment leaves out what could change what the tools do.
func environment(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return name == variable || strings.HasPrefix(name, "PV_") || strings.HasPrefix(name, "GO")
	})
}

func find(name string) (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	return exec.LookPath(name)
}

// A request is a client's command, read.
type request struct {
	repo    string
	allowed []string

	tool    string
	talk    string // -v or -q
	options []string
	id      string // of a snapshot to be read, "" for none
}

// read reads a command as the scripts write it: the tool, perhaps -v or -q, the
// repository's path, and for pv-get an option. Everything must be just so.
func (r *request) read(asked string) error {
	if asked == "" {
		return fmt.Errorf("a login: %w", errRefused)
	}
	words, err := split(asked)
	if err != nil {
		return err
	}
	asked = strings.Join(words, " ")
	refused := fmt.Errorf("%q: %w", tool.Mask(asked), errRefused)
	next := func() string {
		if len(words) == 0 {
			return ""
		}
		w := words[0]
		words = words[1:]
		return w
	}
	r.tool = next()
	if len(words) > 0 && (words[0] == "-v" || words[0] == "-q") {
		r.talk = next()
	}
	if next() != r.repo {
		return refused
	}
	right := ""
	switch {
	case r.tool == "pv-put" && (len(words) == 0 || len(words) == 1 && words[0] == "--existing"):
		r.options, right = words, "put"
	case r.tool == "pv-get" && len(words) > 0:
		right = r.reading(words)
	}
	switch {
	case right == "":
		return refused
	case !slices.Contains(r.allowed, right):
		return &rightError{asked, right, r.allowed}
	}
	return nil
}

// reading returns the right that it takes to run pv-get with these words, "" if
// there is none.
func (r *request) reading(words []string) string {
	r.options = words
	one := len(words) == 1
	switch w := words[0]; {
	case w == "--has" && len(words) == 2 && isIDs(words[1]), one && w == "--id",
		w == "--id" && len(words) == 3 && words[1] == "--has" && isIDs(words[2]):
		return "has"
	case one && (w == "--snapshots" || w == "--ids" || w == "--keys"),
		w == "--blobs" && len(words) == 2 && words[1] == "-",
		w == "--key" && len(words) == 2 && isName(words[1]):
		return "get"
	case w == "--copy" && isCopy(words[1:]):
		return "get"
	case isID(w) && (one || len(words) == 2 && words[1] == "--meta"):
		r.options, r.id = words[1:], w
		return "get"
	}
	return ""
}

// isCopy reports whether the words behind --copy are as pv-copy writes them.
func isCopy(words []string) bool {
	if len(words) == 0 || !isID(words[0]) {
		return false
	}
	words = words[1:]
	if len(words) >= 2 && words[0] == "--since" && isIDs(words[1]) {
		words = words[2:]
	}
	return len(words) == 0 || len(words) == 2 && words[0] == "--known" && words[1] == "-"
}

func isID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

func isIDs(s string) bool {
	for _, i := range strings.Split(s, ",") {
		if !isID(i) {
			return false
		}
	}
	return true
}

func isName(s string) bool {
	return s != "" && len(s) <= 64 && s[0] != '-' && s[0] != '.' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// split cuts a command into words, as a shell would cut what the scripts send:
// words in single quotes, in which a single quote is written '\”, or words of
// harmless letters without any. All else is an error: this is no shell.
func split(s string) ([]string, error) {
	bad := fmt.Errorf("a command that the scripts of Preserve do not send: %w", errRefused)
	if len(s) > maxCommand || strings.ContainsAny(s, "\x00\n\r") {
		return nil, bad
	}
	var words []string
	for rest := strings.Trim(s, " "); rest != ""; rest = strings.TrimLeft(rest, " ") {
		var word strings.Builder
		for rest != "" && rest[0] != ' ' {
			switch {
			case rest[0] == '\'':
				inside, behind, ok := strings.Cut(rest[1:], "'")
				if !ok {
					return nil, bad
				}
				word.WriteString(inside)
				rest = behind
			case strings.HasPrefix(rest, `\'`):
				word.WriteByte('\'')
				rest = rest[2:]
			case isPlain(rest[0]):
				word.WriteByte(rest[0])
				rest = rest[1:]
			default:
				return nil, bad
			}
		}
		words = append(words, word.String())
	}
	return words, nil
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/._,+:@%=-", c) >= 0
}
