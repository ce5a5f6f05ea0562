package job

import (
	"strings"
	"testing"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// The command for another snapshot can be pasted into a shell.
func TestAgain(t *testing.T) {
	repo := remote.Address{Text: "it's here"}
	for want, q := range map[string]RecoverRequest{
		`pv-recover 'it'\''s here' NEWDIR abc`: {Repo: repo},
		`pv-recover '--key' 'k' '--passphrase-file' 'my file' '--revoked=a b' 'it'\''s here' NEWDIR abc`: {
			Repo: repo, Name: "k", Passphrase: "my file", Trust: []string{"--revoked=a b"}},
		`pv-restore -r 'it'\''s here' -k 'my key' '--allow-revoked=true' abc NEWDIR`: {
			Repo: repo, Name: "k", Passphrase: "p", Keep: "my key", Trust: []string{"--allow-revoked=true"}},
	} {
		if got := q.again("abc"); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// A passphrase file that cannot be read is named before anything is asked.
func TestRecoverWithoutPassphraseFile(t *testing.T) {
	env := tool.NewEnv("pv-recover", nil, nil, nil, nil)
	t.Setenv("PATH", "")
	for _, file := range []string{"/nowhere/at all", t.TempDir()} {
		_, err := Recover(env, "", RecoverRequest{Repo: remote.Address{Text: "r", Path: "r"}, Passphrase: file})
		if err == nil || !strings.Contains(err.Error(), "passphrase file "+file) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
