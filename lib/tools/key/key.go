// Package key is the command pv-key: it makes master keys, derives the others,
// and says what a key file holds. It never prints a secret.
package key

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"preserve/lib/key"
	"preserve/lib/tool"
)

const usage = `usage: pv-key new -o MASTER
       pv-key derive write|list|read|cut -k MASTER -o FILE [--writer NAME]
       pv-key show FILE
       pv-key revoke WRITEKEY|PUBLICKEY >>READKEY.revoked
       pv-key wrap -k KEY [--time 3s] [--memory 1024] [--passphrase-file FILE] >WRAPPED
       pv-key unwrap -o FILE [--passphrase-file FILE] <WRAPPED
       pv-key paper -k MASTER >PAGE
       pv-key from-paper -o MASTER [<PAGE]
       pv-key hold -k KEY [--wrapped] [--passphrase-file FILE] -- COMMAND [ARGUMENT…]

new makes a master key: keep it offline, for without it and the keys derived
from it no backup can be read. derive makes keys for daily work:

  write  makes backups, reads none
  list   lists and compares backups, reads no contents
  read   restores and verifies
  cut    cuts files into chunks, for pv-chunk in a process of its own

show tells kind, key id, name and what a key can do, one "field: value" a line.

revoke prints a line for a file of revoked writers: what they made, pv-open and pv-unpack then
refuses. It takes a write key's file, or the writer's public key in 64 hex digits,
which pv-key show and pv-open --snapshots print.

wrap encrypts a key under a passphrase of eight words, which it makes and shows on
the terminal; unwrap gives the key back. paper writes a page to print, with the
master key in groups of five letters and digits; from-paper takes them from stdin,
or asks for them. Key files are never overwritten.

hold runs COMMAND with the key in memory, in no file, and its name in PV_KEY: for a
key that comes from a pipe (-k <(age -d key.age)), and for a wrapped key.

  -o FILE        where to write the new key
  -k MASTER      the master key
  --writer NAME  what backups made with a write key say of who made them:
                 1 to 32 of a-z 0-9 . _ - (default: the host's name)
  --time T       how long one guess at the passphrase takes on this machine (3s,
                 10m, 1h): the longer, the harder to guess, and to open
  --memory MIB   and how much memory
  --passphrase-fd N, --passphrase-file FILE
                     take the passphrase from this open file, or from FILE, not from
                     the terminal
  --wrapped      KEY must be a wrapped key: one that comes from a repository, which
                 may be anybody's if it opens without a passphrase
  -q             say only errors and warnings
  -v             say more
`

// Run is pv-key.
func Run(env *tool.Env) error {
	fs := env.Flags()
	out := fs.String("o", "", "")
	master := fs.String("k", "", "")
	writer := fs.String("writer", "", "")
	cost := fs.Duration("time", work, "")
	memory := fs.Int("memory", key.DefaultMemory>>10, "")
	fd := fs.Int("passphrase-fd", -1, "")
	file := fs.String("passphrase-file", "", "")
	wrapped := fs.Bool("wrapped", false, "")
	words, err := env.Parse(fs, usage)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return tool.Usagef("what to do? %s", verbs)
	}
	if err := key.Seclude(); err != nil {
		return err
	}
	if *file != "" {
		if *fd >= 0 {
			return tool.Usagef("--passphrase-fd and --passphrase-file exclude each other")
		}
		// Whoever reads the passphrase closes it.
		if *fd, err = syscall.Open(*file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open passphrase file %q: %w", *file, err)
		}
	}
	verb, words := words[0], words[1:]
	switch verb {
	case "new":
		if err := check(fs, words, 0, "o"); err != nil {
			return err
		}
		return makeMaster(env, *out)
	case "derive":
		if err := check(fs, words, 1, "o", "k", "writer?"); err != nil {
			return err
		}
		return derive(env, words[0], *master, *out, *writer)
	case "show":
		if err := check(fs, words, 1); err != nil {
			return err
		}
		return show(env, words[0])
	case "revoke":
		if err := check(fs, words, 1); err != nil {
			return err
		}
		return revoke(env, words[0])
	case "wrap":
		if err := check(fs, words, 0, "k", "time?", "memory?", "passphrase-fd?", "passphrase-file?"); err != nil {
			return err
		}
		said := false
		fs.Visit(func(f *flag.Flag) { said = said || f.Name == "time" || f.Name == "memory" })
		return wrap(env, *master, *cost, *memory, *fd, said)
	case "unwrap":
		if err := check(fs, words, 0, "o", "passphrase-fd?", "passphrase-file?"); err != nil {
			return err
		}
		return unwrap(env, *out, *fd)
	case "paper":
		if err := check(fs, words, 0, "k"); err != nil {
			return err
		}
		return paper(env, *master)
	case "from-paper":
		if err := check(fs, words, 0, "o"); err != nil {
			return err
		}
		return fromPaper(env, *out)
	case "hold":
		if len(words) == 0 {
			return tool.Usagef("hold needs a command, behind --")
		}
		if err := check(fs, words, len(words), "k", "wrapped?", "passphrase-fd?", "passphrase-file?"); err != nil {
			return err
		}
		return hold(env, *master, *fd, *wrapped, words)
	}
	return tool.Usagef("%q: not %s", verb, verbs)
}

const verbs = "new, derive, show, revoke, wrap, unwrap, paper, from-paper or hold"

// check refuses a command line that does not consist of n words and the given
// flags, of which those that end in "?" may be absent.
func check(fs *flag.FlagSet, words []string, n int, flags ...string) error {
	if len(words) != n {
		return tool.Usagef("%d arguments where %d are wanted", len(words), n)
	}
	given := map[string]bool{"v": true, "q": true}
	for _, f := range flags {
		name, optional := strings.CutSuffix(f, "?")
		if !optional && fs.Lookup(name).Value.String() == "" {
			return tool.Usagef("-%s is missing", name)
		}
		given[name] = true
	}
	var err error
	fs.Visit(func(f *flag.Flag) {
		if !given[f.Name] {
			err = tool.Usagef("-%s does not belong here", f.Name)
		}
	})
	return err
}

func makeMaster(env *tool.Env, path string) error {
	k, err := key.New()
	if err != nil {
		return err
	}
	return save(env, k, path)
}

func derive(env *tool.Env, word, master, path, writer string) error {
	kind, ok := key.ParseKind(word)
	if !ok || kind == key.Master {
		return tool.Usagef("%q: not write, list, read or cut", word)
	}
	name, err := nameFor(kind, writer)
	if err != nil {
		return err
	}
	m, err := load(env, master)
	if err != nil {
		return err
	}
	k, err := m.Derive(kind, name)
	if errors.Is(err, key.ErrDerive) {
		return &tool.Hint{Err: fmt.Errorf("key file %q: %w", master, err), Text: "give the file that pv-key new made, with -k"}
	}
	if err != nil {
		return err
	}
	return save(env, k, path)
}

// nameFor returns the name of a new key of the given kind: what the user says,
// else the host's name made to fit; nothing for a key that has no name.
func nameFor(kind key.Kind, said string) (string, error) {
	if kind != key.Write {
		if said != "" {
			return "", tool.Usagef("-writer does not belong here: only a write key has a name")
		}
		return "", nil
	}
	if said != "" {
		if !key.ValidWriter(said) {
			return "", tool.Usagef("-writer %q: %v", said, key.ErrName)
		}
		return said, nil
	}
	host, err := os.Hostname()
	if name := fit(host); err == nil && key.ValidWriter(name) {
		return name, nil
	}
	return "", tool.Usagef("the host's name %q does not name a writer: give --writer NAME", host)
}

// fit turns a host's name into a writer's, as far as can be.
func fit(host string) string {
	name := []byte(strings.ToLower(host))
	for i, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' {
			name[i] = '-'
		}
	}
	return strings.Trim(string(name[:min(len(name), key.MaxName)]), "-.")
}

func load(env *tool.Env, path string) (*key.Key, error) {
	k, warning, err := key.Load(path)
	if warning != "" {
		env.Say("%s", warning)
	}
	return k, err
}

func save(env *tool.Env, k *key.Key, path string) error {
	err := k.Save(path)
	if errors.Is(err, key.ErrExists) {
		return &tool.Hint{Err: err, Text: "choose another file, or move this one away if you are sure that it is not needed"}
	}
	if err != nil {
		return err
	}
	env.Notice("wrote %s to %q", k.String(), path)
	if k.Kind() == key.Master {
		env.Notice("keep a copy of it offline: without it, or a read key, no backup can be restored")
	}
	return nil
}

// show prints what may be known of a key, in lines that programs may read.
func show(env *tool.Env, path string) error {
	k, err := load(env, path)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "kind: %s\nkey id: %s\n", k.Kind(), k.ID())
	if writer, ok := k.WriterPublic(); ok {
		fmt.Fprintf(&b, "name: %s\nwriter: %x\n", k.Name(), []byte(writer))
	}
	fmt.Fprintf(&b, "can: %s\ncannot: %s\n", k.Kind().Can(), k.Kind().Cannot())
	_, err = io.WriteString(env.Stdout, b.String())
	return err
}

// revoke prints the line that revokes a writer, of whom the key file is there, or
// only the public key.
func revoke(env *tool.Env, which string) error {
	var line string
	if writer, err := key.ParseWriter(which); err == nil {
		line = key.RevocationOf(writer, "a writer", time.Now())
	} else {
		k, err := load(env, which)
		if err != nil {
			return &tool.Hint{Err: err, Text: "without the file, give the writer's public key: pv-open --snapshots prints it of every snapshot"}
		}
		if line, err = k.Revocation(time.Now()); err != nil {
			return fmt.Errorf("key file %q: %w", which, err)
		}
	}
	if _, err := io.WriteString(env.Stdout, line); err != nil {
		return fmt.Errorf("write the line: %w", err)
	}
	return nil
}
