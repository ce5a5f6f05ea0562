// Package remote is where a repository is: a directory here, or one on another
// machine that ssh reaches. It reads the name that people write, builds the command
// that runs a tool there, and runs it.
//
//	REPO = DIR | ssh://[USER@]HOST[:PORT]/PATH
//
// A tool that gets an ssh:// name runs itself on the other machine: its stdin and stdout
// are the other one's, and the other one's messages are printed here, escaped. It
// knows nothing of repositories or streams.
package remote

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"preserve/lib/tool"
)

// An Address says where a repository is.
type Address struct {
	Text string // as the user wrote it
	Path string // of the directory, here or there
	Host string // with the user in front; empty for a directory here
	Port string // empty for ssh's own choice
	// Verb is a word between a tool's options and the repository, for tools that do several
	// things; empty for none.
	Verb string
}

// Remote reports whether the repository is on another machine.
func (a Address) Remote() bool { return a.Host != "" }

// Parse reads the name of a repository. Errors are usage errors.
func Parse(text string) (Address, error) {
	a := Address{Text: text, Path: text}
	scheme, rest, has := strings.Cut(text, "://")
	switch {
	case text == "":
		return a, tool.Usagef("a repository is needed: -r REPO or PV_REPO")
	case has && scheme == "ssh":
		return a, a.ssh(rest)
	case has && !strings.ContainsAny(scheme, "/."):
		return a, tool.Usagef("repository %s: not a directory and not ssh://[user@]host[:port]/path", text)
	}
	if host, _, is := strings.Cut(text, ":"); is && !strings.ContainsAny(host, "/") && host != "" {
		if st, err := os.Stat(text); err != nil || !st.IsDir() {
			return a, tool.Usagef("repository %s: for another machine write ssh://host/path, for a directory of that name ./%s", text, text)
		}
	}
	if strings.HasPrefix(text, "-") {
		a.Path = "./" + text
	}
	return a, nil
}

// ssh splits what follows ssh://.
func (a *Address) ssh(rest string) error {
	host, path, _ := strings.Cut(rest, "/")
	if path == "" {
		return tool.Usagef("repository %s: the path is missing: ssh://[user@]host[:port]/path", a.Text)
	}
	a.Path = "/" + path
	if at := strings.LastIndexByte(host, ':'); at >= 0 && !strings.HasSuffix(host, "]") {
		host, a.Port = host[:at], host[at+1:]
		if a.Port == "" || strings.Trim(a.Port, "0123456789") != "" {
			return tool.Usagef("repository %s: %q is not a port", a.Text, a.Port)
		}
	}
	host = strings.NewReplacer("[", "", "]", "").Replace(host)
	user, name, has := strings.Cut(host, "@")
	if !has {
		name = user
	}
	plain := strings.Trim(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@._:%-") == ""
	if name == "" || !plain || strings.HasPrefix(host, "-") || strings.HasPrefix(name, "-") || has && user == "" {
		return tool.Usagef("repository %s: %q is not a host", a.Text, host)
	}
	a.Host = host
	return nil
}

// Where names the repository so that it is the same from every working directory and
// in every spelling that leads to the same place: a directory by its absolute path, symbolic
// links resolved as far as the path exists.
func (a Address) Where() string {
	if a.Remote() {
		where := "ssh://" + a.Host
		if a.Port != "" {
			where += ":" + a.Port
		}
		return where + filepath.Clean(a.Path)
	}
	abs, err := filepath.Abs(a.Path)
	if err != nil {
		return a.Path
	}
	for dir, rest := abs, ""; ; {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			return filepath.Join(real, rest)
		}
		up := filepath.Dir(dir)
		if up == dir {
			return abs
		}
		dir, rest = up, filepath.Join(filepath.Base(dir), rest)
	}
}

// patience is how ssh is told to notice that nobody answers: a connection that is not
// made in time, or over which nothing comes though something should. Whoever names a
// command of his own in PV_SSH says it himself.
var patience = []string{"-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=30", "-o", "ServerAliveCountMax=6"}

// Command returns what runs a tool where the repository is: its name, options that
// say how much it talks (empty for none), the repository, and further words.
func (a Address) Command(name, talk string, words ...string) []string {
	there := []string{name}
	if talk != "" {
		there = append(there, talk)
	}
	if a.Verb != "" {
		there = append(there, a.Verb)
	}
	there = append(append(there, a.Path), words...)
	if !a.Remote() {
		return there
	}
	argv := strings.Fields(os.Getenv("PV_SSH"))
	if len(argv) == 0 {
		argv = append([]string{"ssh"}, patience...)
	}
	if a.Port != "" {
		argv = append(argv, "-p", a.Port)
	}
	// ssh joins its words with blanks for the shell over there.
	return append(argv, a.Host, Quote(there...))
}

// Quote writes words for a POSIX shell, blanks between them.
func Quote(words ...string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// String is the name that the user wrote.
func (a Address) String() string { return a.Text }

// GoString keeps %#v from showing more than String does.
func (a Address) GoString() string { return fmt.Sprintf("remote.Address(%q)", a.Text) }
