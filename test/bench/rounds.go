package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A bench is one run of everything.
type bench struct {
	options
	ctx      context.Context
	work     string
	tools    []tool
	cold     bool // caches are dropped before every run
	progress io.Writer
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, "bench: "+format+"\n", args...)
}

// result is what one tool took for one data set, a figure for every round.
type result struct{ backup, restore []figures }

// measureSet runs all tools over a set, one after the other and round after
// round, so that what else the machine does in an hour meets all of them.
func (b *bench) measureSet(s dataSet) (map[string]*result, error) {
	want, err := b.fingerprint(s.dir)
	if err != nil {
		return nil, err
	}
	results := make(map[string]*result)
	for round := range b.rounds {
		for _, t := range of(b.tools, s.name) {
			r := results[t.name]
			if r == nil {
				r = new(result)
				results[t.name] = r
			}
			if err := b.measureTool(s, t, round, want, r); err != nil {
				return nil, fmt.Errorf("%s, data set %s: %w", t.name, s.name, err)
			}
		}
	}
	return results, nil
}

// measureTool makes a first backup and restores it, checks what came out, and
// adds the figures to r.
func (b *bench) measureTool(s dataSet, t tool, round int, want string, r *result) error {
	dir := filepath.Join(b.work, fmt.Sprintf("%s-%s-%d", s.name, t.name, round+1))
	repo, dest, state := filepath.Join(dir, "repo"), filepath.Join(dir, "dest"), filepath.Join(dir, "state")
	for _, d := range []string{dest, state} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if !b.keep {
		defer remove(dir)
	}
	env := []string{"SRC=" + s.dir, "REPO=" + repo, "DEST=" + dest, "STATE=" + state}
	if _, err := measure(b.ctx, t.setup, env, filepath.Join(dir, "setup.log")); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	timed := func(verb, script string) (figures, error) {
		if b.cold {
			if err := dropCaches(); err != nil {
				return figures{}, err
			}
		}
		f, err := measure(b.ctx, script, env, filepath.Join(dir, verb+".log"))
		if err != nil {
			return f, fmt.Errorf("%s: %w", verb, err)
		}
		if f.repo, err = treeSize(repo); err != nil {
			return f, err
		}
		b.say("round %d: %s, %s, %s: %s wall, %s cpu, %s memory, %s repository", round+1, s.name, t.name, verb,
			f.wall.Round(10*time.Millisecond), f.cpu.Round(10*time.Millisecond), megabytes(f.memory), megabytes(f.repo))
		return f, nil
	}
	f, err := timed("backup", t.backup)
	if err != nil {
		return err
	}
	r.backup = append(r.backup, f)
	if f, err = timed("restore", t.restore); err != nil {
		return err
	}
	r.restore = append(r.restore, f)
	return b.check(s, t, round, want, filepath.Join(dest, s.dir))
}

// check compares a restored tree with its source: Preserve's in every round and
// with all metadata that tar knows, the others' in the first and by names, types
// and contents, for their fidelity is not measured here.
func (b *bench) check(s dataSet, t tool, round int, want, restored string) error {
	if t.name == "preserve" {
		got, err := b.fingerprint(restored)
		if err == nil && got != want {
			err = fmt.Errorf("the restored tree is not what was backed up: tar of %s has SHA-256 %s, of %s %s", s.dir, want, restored, got)
		}
		return err
	}
	if round > 0 {
		return nil
	}
	env := []string{"A=" + s.dir, "B=" + restored}
	if _, err := measure(b.ctx, `diff -r --no-dereference "$A" "$B"`, env, filepath.Join(b.work, "diff.log")); err != nil {
		return fmt.Errorf("the restored tree is not what was backed up: %w", err)
	}
	return nil
}

// fingerprint returns the SHA-256 of a canonical tar of a tree: names, contents,
// owners, modes, times, links, extended attributes.
func (b *bench) fingerprint(dir string) (string, error) {
	const script = `tar -C "$DIR" --sort=name --format=posix --numeric-owner --xattrs --xattrs-include='*' --acls \
		--pax-option='exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' -cf - . | sha256sum`
	log := filepath.Join(b.work, "fingerprint.log")
	if _, err := measure(b.ctx, script, []string{"DIR=" + dir}, log); err != nil {
		return "", err
	}
	out, err := os.ReadFile(log)
	if err == nil && len(out) != 64+len("  -\n") {
		err = fmt.Errorf("fingerprint of %s: %s", dir, out)
	}
	if err != nil {
		return "", err
	}
	return string(out[:64]), nil
}

// treeSize returns the sum of the sizes of all files below dir, as du -sb counts
// them but for the directories.
func treeSize(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
