package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// What a nightly backup takes: a run over a tree that has not changed, beside
// find, which only looks at it; and what it adds to the repository when one file
// in a hundred has.

// nightlyFiles is how many files the set has at scale 1.
const nightlyFiles = 70_000

// age is how old the tree is at least when its first backup begins: over
// pv-chunk's --margin, or the second run would read the files again.
const age = 61 * time.Second

// makeNightly copies files of at most 256 KiB, whatever is in them.
func makeNightly(ctx context.Context, dir string, scale float64) (string, error) {
	roots := sourceRoots(ctx)
	s := &selection{limit: 1 << 62}
	left := int(nightlyFiles * scale)
	for _, root := range roots {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case left == 0:
				return fs.SkipAll
			case err != nil:
				return fs.SkipDir
			case d.Type().IsRegular():
				info, err := d.Info()
				if err == nil && info.Size() > 0 && info.Size() <= 256<<10 {
					s.add(path, info.Size())
					left--
				}
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return "files of at most 256 KiB", s.copyTo(ctx, dir)
}

// A nightly is how a program makes its first backup and the ones after it.
type nightly struct {
	name         string
	needs        []string
	setup        string
	first, again string
	quick        bool // only looks: it has no repository, and no part in the edits
}

const pipeline = `
	pv-scan "$SRC" | pv-chunk -k "$STATE/write" --cache "$STATE/cache" %s |
		pv-seal -k "$STATE/write" --cache "$STATE/cache" | pv-put "$REPO" >"$STATE/new"
	mv "$STATE/new" "$STATE/id"`

const lastBase = `--base "$(cat "$STATE/id")"`

func nightlies() []nightly {
	preserve, _ := findTool("preserve")
	restic, _ := findTool("restic")
	borg, _ := findTool("borg")
	return []nightly{
		{name: "preserve", needs: preserve.needs, setup: preserve.setup,
			first: fmt.Sprintf(pipeline, "--settle 0 --margin 0"), again: fmt.Sprintf(pipeline, "--settle 0 --margin 0 "+lastBase)},
		{name: "preserve, defaults", needs: preserve.needs, setup: preserve.setup,
			first: fmt.Sprintf(pipeline, ""), again: fmt.Sprintf(pipeline, lastBase)},
		{name: "find", needs: []string{"find"}, quick: true,
			again: `find "$SRC" -printf '%p %y %m %U %G %s %T@ %C@ %i %n %l\n' >"$STATE/list"`},
		{name: "restic", needs: restic.needs, setup: restic.setup, first: restic.backup, again: restic.backup},
		{name: "borg", needs: borg.needs, setup: borg.setup, first: borg.backup, again: `
			export BORG_PASSPHRASE=bench BORG_BASE_DIR="$STATE"
			borg create --compression zstd,3 "$REPO::$(date +%s.%N)" "$SRC"`},
	}
}

// wanted leaves out those that were not asked for, and those of which something is
// not there.
func wanted(all []nightly, tools []string) []nightly {
	return slices.DeleteFunc(all, func(n nightly) bool {
		name, _, _ := strings.Cut(n.name, ",")
		return !n.quick && !slices.Contains(tools, name) || slices.ContainsFunc(n.needs, func(name string) bool { _, err := exec.LookPath(name); return err != nil })
	})
}

// A run of one program: what it took, and by how many bytes its repository grew.
type nightlyRun struct {
	figures
	added int64
}

// nightly measures the set: rounds of runs over the tree as it is, one program
// after the other, then a run behind each kind of edits.
func (b *bench) nightly(s dataSet, w io.Writer) error {
	programs := wanted(nightlies(), b.options.tools)
	for _, p := range programs {
		if _, err := b.runNightly(s, p, "setup", p.setup); err != nil {
			return err
		}
	}
	time.Sleep(age)
	for _, p := range programs {
		if _, err := b.runNightly(s, p, "first", p.first); err != nil {
			return err
		}
	}
	unchanged := map[string][]nightlyRun{}
	for range b.rounds {
		for _, p := range programs {
			r, err := b.runNightly(s, p, "again", p.again)
			if err != nil {
				return err
			}
			unchanged[p.name] = append(unchanged[p.name], r)
		}
	}
	reportUnchanged(w, s, programs, unchanged)
	for _, size := range []int{1, 8} {
		// What was edited lately is read again once: that is not of interest here.
		time.Sleep(age)
		for _, p := range programs {
			if _, err := b.runNightly(s, p, "again", p.again); err != nil {
				return err
			}
		}
		changed, err := edit(s, size)
		if err != nil {
			return err
		}
		added := map[string]int64{}
		for _, p := range programs {
			if p.quick {
				continue
			}
			r, err := b.runNightly(s, p, "edited", p.again)
			if err != nil {
				return err
			}
			added[p.name] = r.added
		}
		reportEdits(w, size, changed, programs, added)
	}
	return nil
}

// runNightly runs a script of a program, which has a directory of its own.
func (b *bench) runNightly(s dataSet, p nightly, verb, script string) (r nightlyRun, err error) {
	dir := filepath.Join(b.work, "nightly-"+p.name)
	repo, state := filepath.Join(dir, "repo"), filepath.Join(dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return r, err
	}
	before := int64(0)
	if _, err := os.Stat(repo); err == nil {
		if before, err = treeSize(repo); err != nil {
			return r, err
		}
	}
	env := []string{"SRC=" + s.dir, "REPO=" + repo, "STATE=" + state}
	if r.figures, err = measure(b.ctx, script, env, filepath.Join(dir, verb+".log")); err != nil {
		return r, fmt.Errorf("%s, %s: %w", p.name, verb, err)
	}
	if !p.quick && verb != "setup" {
		if r.repo, err = treeSize(repo); err != nil {
			return r, err
		}
		r.added = r.repo - before
	}
	b.say("%s, %s, %s: %s wall, %s cpu, %d bytes added", s.name, p.name, verb, r.wall.Round(time.Millisecond), r.cpu.Round(time.Millisecond), r.added)
	return r, nil
}

// edit changes one file in a hundred, in clusters of that many that are
// neighbours in one directory: of ten, seven get a line in the middle and one is
// renamed, one removed, one added. It returns how many it changed.
func edit(s dataSet, cluster int) (int, error) {
	dirs := map[string][]string{}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			dirs[filepath.Dir(path)] = append(dirs[filepath.Dir(path)], path)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var groups [][]string
	for _, files := range dirs {
		for g := range slices.Chunk(files, cluster) {
			if len(g) == cluster {
				groups = append(groups, g)
			}
		}
	}
	slices.SortFunc(groups, func(a, b []string) int { return slices.Compare(a, b) })
	r := rand.New(rand.NewPCG(uint64(cluster), 1))
	r.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
	changed, want := 0, s.files/100
	for _, g := range groups {
		for _, path := range g {
			if changed == want {
				return changed, nil
			}
			if err := editFile(path, changed, r); err != nil {
				return changed, err
			}
			changed++
		}
	}
	return changed, nil
}

func editFile(path string, n int, r *rand.Rand) error {
	switch n % 10 {
	case 7:
		return os.Rename(path, path+".renamed")
	case 8:
		return os.Remove(path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("\nedited %d: %x\n", n, r.Uint64())
	if n%10 == 9 {
		path += ".added"
	}
	data = slices.Insert(data, len(data)/2, []byte(line)...)
	return os.WriteFile(path, data, 0o644)
}

func reportUnchanged(w io.Writer, s dataSet, programs []nightly, runs map[string][]nightlyRun) {
	fmt.Fprintf(w, "\n%s: %s in %d files, %s; warm caches\n\n", s.name, megabytes(s.bytes), s.files, s.what)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "unchanged\twall s\tof find\tcpu s\tcpu µs per file\tadded bytes")
	of := func(name string, value func(figures) float64) float64 {
		var fs []figures
		for _, r := range runs[name] {
			fs = append(fs, r.figures)
		}
		return median(fs, value)
	}
	wall := func(f figures) float64 { return f.wall.Seconds() }
	cpu := func(f figures) float64 { return f.cpu.Seconds() }
	for _, p := range programs {
		added := runs[p.name][len(runs[p.name])-1].added
		fmt.Fprintf(tw, "%s\t%.2f\t%.2f\t%.2f\t%.1f\t%d\n", p.name, of(p.name, wall), of(p.name, wall)/of("find", wall),
			of(p.name, cpu), of(p.name, cpu)/float64(s.files)*1e6, added)
	}
	tw.Flush()
}

func reportEdits(w io.Writer, cluster, changed int, programs []nightly, added map[string]int64) {
	how := "scattered"
	if cluster > 1 {
		how = fmt.Sprintf("%d in a directory", cluster)
	}
	fmt.Fprintf(w, "\n%d files edited, renamed, removed, added, %s\n\n", changed, how)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "edited\tadded MB\tPreserve's to this")
	for _, p := range programs {
		if !p.quick {
			fmt.Fprintf(tw, "%s\t%.2f\t%.2f\n", p.name, float64(added[p.name])/mb, float64(added["preserve"])/float64(added[p.name]))
		}
	}
	tw.Flush()
}
