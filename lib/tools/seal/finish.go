package seal

import (
	"time"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// finish sends the top of the tree, the snapshot and the end, and then gives the
// next run what it is to know of this one.
func (s *sealer) finish() error {
	root, err := s.tree.Finish()
	if err != nil {
		return err
	}
	end := &rec.End{Status: s.end.Status, Warnings: s.end.Warnings}
	same, unchanged := id.ID{}, false
	if s.opts.skip {
		same, unchanged = s.stored.same(root)
	}
	i := same
	if unchanged {
		end.Unchanged = same
	} else {
		sn := s.snapshot(&sofar{s.check.Entries, s.check.Bytes, s.names.Users, s.names.Groups})
		sn.Warnings, sn.Warned = s.end.Warnings, s.end.Warned
		if i, err = s.sign(sn, root); err != nil {
			return err
		}
	}
	if err := s.idFile.write(i); err != nil { // before anybody can have stored it
		return err
	}
	end.Entries, end.Bytes = s.blobs, s.sealed.Load() // what the store counts itself; the snapshot says how many names
	if err := s.out.Write(end); err != nil {
		return err
	}
	// The stream is whole: whatever becomes of us now, it is committed when it ends.
	s.notes.finish(i, root, !unchanged)
	return nil
}

// checkpoint sends, if it is time, a snapshot of the tree so far, to be made
// durable. It leaves the tree as it was.
func (s *sealer) checkpoint(so *sofar) error {
	if s.opts.checkpoint == 0 || time.Since(s.closed) < s.opts.checkpoint {
		return nil
	}
	// Index pages that are closed too early are no part of the tree in the end.
	s.aside = true
	root, err := s.tree.Copy().Finish()
	s.aside = false
	if err != nil {
		return err
	}
	sn := s.snapshot(so)
	sn.Partial = true
	i, err := s.sign(sn, root)
	if err != nil {
		return err
	}
	if err := s.out.Write(&rec.Checkpoint{ID: i}); err != nil {
		return err
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	s.notes.checkpoint(i, root)
	s.closed = time.Now()
	return nil
}

// snapshot returns what a snapshot says of this run, and of the tree so far.
func (s *sealer) snapshot(so *sofar) *snap.Snapshot {
	pk, name, cert := s.box.Writer()
	sn := &snap.Snapshot{WriterKey: pk, WriterName: name, WriterCert: cert, Label: s.opts.label, Tags: s.opts.tags,
		Time: s.head.Time, Prev: s.stored.prev(), Host: word(s.head.Host), User: word(s.head.User), Roots: s.head.Roots,
		Entries: so.entries, Bytes: so.bytes, Users: so.users, Groups: so.groups}
	if s.head.Chunker != nil {
		sn.Chunker = *s.head.Chunker
	}
	return sn
}

// sign seals, signs and sends a snapshot over a root.
func (s *sealer) sign(sn *snap.Snapshot, root id.ID) (id.ID, error) {
	plain, err := sn.Encode()
	if err != nil {
		return id.ID{}, err
	}
	sum := box.SumOf(root[:], plain)
	i := s.box.Name(rec.KindSnapshot, root[:], plain)
	b, err := s.blob(nil, sum, rec.KindSnapshot, i, root[:], plain)
	if err != nil {
		return i, err
	}
	return i, s.write(b)
}
