package job

import (
	"slices"
	"strings"
)

// readable reports whether a target can be read: pv-serve may let it only be put into.
func (r *Run) readable(n int) bool {
	t := r.Targets[n]
	if !t.Repo.Remote() {
		return true
	}
	_, err := r.ask(t.Repo, limit(), "--keys")
	return err == nil
}

// since is the newest snapshot of the job that both the Nth target and the lead have.
func (r *Run) since(b *Backup, n int) string {
	m := &memory{}
	if b.Dir != "" {
		m, _ = recall(b.Dir)
	}
	for _, i := range slices.Backward(m.Order) {
		if r.Targets[n].Has[i] && r.Targets[b.Lead].Has[i] && i != r.Targets[b.Lead].Snapshot {
			return i
		}
	}
	return ""
}

// copyPass prepares a pass that copies the lead's snapshot to the Nth target, but for
// what the snapshot since reaches there, if it is not empty, and what the target says that it has.
func (r *Run) copyPass(b *Backup, n int, since string) error {
	lead := r.Targets[b.Lead]
	return r.stuck(b, r.copyArguments(lead, r.Targets[n], lead.Snapshot, since, b.KnownFile))
}

// copyArguments writes what pv-get and pv-put are told, to copy a snapshot: but for what the snapshots in
// since reach, and the ids in the file known. Both may be empty.
func (r *Run) copyArguments(from, to *Target, snapshot, since, known string) error {
	get := slices.Concat(r.talk(), []string{from.Repo.Text, "--copy", snapshot})
	if strings.HasPrefix(from.Repo.Text, "-") {
		get[len(r.talk())] = from.Repo.Path
	}
	if since != "" {
		get = append(get, "--since", since)
	}
	if known != "" {
		get = append(get, "--known", known)
	}
	if err := r.arguments("get", get...); err != nil {
		return err
	}
	name := to.Repo.Text
	if strings.HasPrefix(name, "-") {
		name = to.Repo.Path
	}
	return r.arguments("put", slices.Concat(r.talk(), []string{name})...)
}

// A Copy is the state of a copy of snapshots from one repository, Targets[0], to another,
// Targets[1].
type Copy struct {
	Wanted []string // that are still to come, oldest first
	Order  []string // all of Targets[0], oldest first
	Now    string   // under way
	// How the one under way is sent: 0 without what older snapshots and known hold,
	// 1 without known, learnt anew, 2 all of it.
	How     int
	Rested  bool // it rests on something
	Learnt  bool // known is there
	Known   string
	Copied  int
	Lost    int
	Damaged bool // something was missing in Targets[0]
}

// copy is Next of a copy.
func (r *Run) copy(status int) (string, error) {
	c := r.Copy
	to := r.Targets[1]
	if c.Now != "" {
		a := readReport(r.path(reportName), 1, r.exit(status))[0]
		switch {
		case a.id != "" && a.id != c.Now && (a.status == 0 || a.status == 3):
			r.otherID(to, a.id, c.Now)
			c.Lost++
		case a.status == 0 || a.status == 3:
			c.Damaged = c.Damaged || a.status == 3
			r.copied(a.id)
		case len(a.missing) > 0 && c.Rested && c.How < 2:
			r.env.Say("%s rests on blobs that are missing in %s: they are stored again", c.Now, to.Repo)
			c.How++
			return passCopy, r.send(c)
		default:
			r.env.Say("%s was not copied", c.Now)
			c.Lost++
		}
	}
	for c.Now = ""; len(c.Wanted) > 0 && c.Now == ""; c.Wanted = c.Wanted[1:] {
		if !to.committed(c.Wanted[0]) {
			c.Now, c.How = c.Wanted[0], 0
		}
	}
	if c.Now == "" {
		r.Worst = 0
		switch {
		case c.Lost > 0 && c.Copied == 0:
			r.Worst = 1
		case c.Lost > 0 || c.Damaged:
			r.Worst = 3
		}
		return "", ErrDone
	}
	return passCopy, r.send(c)
}

// copied notes that the other repository has got a snapshot.
func (r *Run) copied(i string) {
	c := r.Copy
	c.Copied++
	r.Targets[1].took(c.Now)
	if i == "" {
		i = c.Now
	}
	if _, err := r.env.Stdout.Write([]byte(i + "\n")); err != nil {
		r.env.Warn("snapshot %s was copied, but its id could not be printed: %v", i, err)
	}
}

// send prepares the pass for the snapshot under way. What the other repository has is asked for
// once, and once more when that turns out to be wrong.
func (r *Run) send(c *Copy) error {
	to, since, known := r.Targets[1], "", ""
	if c.How == 0 {
		since = c.older(to)
	}
	if c.How < 2 {
		if !c.Learnt || c.How == 1 {
			c.Known, c.Learnt = r.learn(to), true
		}
		known = c.Known
	}
	c.Rested = since != "" || known != ""
	return r.copyArguments(r.Targets[0], to, c.Now, since, known)
}

// older is the two snapshots before the one under way that the other repository has.
func (c *Copy) older(to *Target) string {
	at := slices.Index(c.Order, c.Now)
	var found []string
	for i := at - 1; i >= 0 && len(found) < 2; i-- {
		if to.Has[c.Order[i]] {
			found = append(found, c.Order[i])
		}
	}
	slices.Reverse(found)
	return strings.Join(found, ",")
}
