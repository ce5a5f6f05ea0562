package job

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"preserve/lib/remote"
)

const (
	// remindEvery is how often it is asked whether there is a copy of the key.
	remindEvery = 24 * time.Hour
	// maxKeys is how many wrapped keys of a repository are looked at for that.
	maxKeys = 16
)

var (
	keyIDLine  = regexp.MustCompile(`(?m)^key id: (\S+)$`)
	keyName    = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$`)
	wrappedKey = regexp.MustCompile(`(?m)^Preserve (master|read) key, wrapped in a passphrase$`)
)

// remind tells the user, once a day, if no copy of the key is known that would be left
// if this machine were lost.
func (r *Run) remind() {
	b := r.Backup
	if b.Dir == "" || r.Talk == "-q" {
		return
	}
	mark := filepath.Join(b.Dir, remindedName)
	if st, err := os.Stat(mark); err == nil && time.Since(st.ModTime()) < remindEvery {
		return
	}
	if os.WriteFile(mark, nil, 0o600) != nil {
		return
	}
	now := time.Now()
	_ = os.Chtimes(mark, now, now) // else it reminds once more
	shown, err := exec.Command("pv-key", "show", b.Key).Output()
	id := keyIDLine.FindSubmatch(shown)
	if err != nil || id == nil {
		return
	}
	master := string(id[1])
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(os.Getenv("HOME"), ".config")
	}
	noted := filepath.Join(config, "preserve", "recovery-noted")
	if text, err := os.ReadFile(noted); err == nil && bytes.Contains(append([]byte{'\n'}, text...), []byte("\n"+master+"\n")) {
		return
	}
	for _, t := range r.Targets {
		if t.Snapshot != "" && r.holdsKey(t, master) {
			return
		}
	}
	r.env.Say("no copy of key %s is known that would survive this machine: make one with pv-key wrap or pv-key paper; if there is one, mkdir -p %s && echo %s >>%s",
		master, remote.Quote(filepath.Dir(noted)), master, remote.Quote(noted))
}

// holdsKey reports whether a repository holds a wrapped key of this master with which a backup can
// be restored, as the lines for people above BEGIN say. Nothing vouches for them: it is a
// hint.
func (r *Run) holdsKey(t *Target, master string) bool {
	names, err := r.ask(t.Repo, limit(), "--keys")
	if err != nil {
		return false
	}
	for n, name := range names {
		if !keyName.MatchString(name) || n >= maxKeys {
			continue
		}
		lines, err := r.ask(t.Repo, limit(), "--key", name)
		text, _, _ := strings.Cut(strings.Join(lines, "\n"), "\n-----BEGIN ")
		if err == nil && wrappedKey.MatchString(text) && strings.Contains(text+"\n", "\nkey id  "+master+"\n") {
			return true
		}
	}
	return false
}
