package job

import "strings"

// sealedName is the file in which pv-seal says what it has made of a tree: the id that each
// target is to print. Its room is taken before the pass.
const (
	sealedName = "sealed"
	sealedRoom = 128
)

// sent is the id of the snapshot that a pass has sent; empty if none was made.
func (r *Run) sent(b *Backup, kind string) string {
	if kind != "store" {
		return r.Targets[b.Lead].Snapshot
	}
	text, _ := readRoom(r.path(sealedName), maxReport) // what cannot be read is no id
	if i := strings.TrimSpace(string(text)); isID(i) {
		return i
	}
	return ""
}

// otherID says that a target claims to have stored what it was not sent. People note the id, to
// have that snapshot and no other: it must not be the store that chooses it.
func (r *Run) otherID(t *Target, said, sent string) {
	if sent == "" {
		sent = "none"
	}
	r.env.Say("%s: says that it has stored snapshot %s, and was sent %s: it is not believed", t.Repo, said, sent)
}
