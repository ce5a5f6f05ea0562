package job

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// A First is the state of a first backup: where its keys and its repository are.
type First struct{ Data string }

// firstPass is the only pass: pv-backup.
const firstPass = "backup"

// FirstBackup begins a backup that needs nothing but a source: keys that are missing are
// made in the data directory ($XDG_DATA_HOME/preserve, or ~/.local/share/preserve), and so is
// the repository.
func FirstBackup(env *tool.Env, talk, source string) (*Run, error) {
	source, err := firstSource(source)
	if err != nil {
		return nil, err
	}
	data, err := dataDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	f := &First{Data: data}
	return once(env, "first-backup", talk, func(r *Run) error {
		r.First, r.Passes = f, []string{firstPass}
		if err := r.makeKeys(f); err != nil {
			return err
		}
		args := append(r.talk(), "-r="+f.path("repo"), "-k="+f.path("write.key"))
		for _, dir := range spellings(data, source) {
			args = append(args, "--exclude="+escape(dir)+"/*.key")
		}
		return r.arguments("backup", append(args, "--", source)...)
	})
}

func (f *First) path(name string) string { return filepath.Join(f.Data, name) }

// has reports whether there is a file of this name; a link that leads nowhere is none.
func (f *First) has(name string) bool { _, err := os.Stat(f.path(name)); return err == nil }

// spellings is the names that a directory can have in a backup of source, which is absolute. The keys in it never
// go into the backup: a read key would open the master key.
func spellings(dir, source string) []string {
	list := []string{dir}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return list
	}
	list = append(list, real)
	from, err := filepath.EvalSymlinks(source)
	if err != nil {
		return list
	}
	if rel, err := filepath.Rel(from, real); err == nil && filepath.IsLocal(rel) {
		list = append(list, filepath.Join(source, rel))
	}
	return unique(list)
}

// firstSource is what pv-backup is told to back up: an absolute path, so that patterns of absolute
// paths are about it.
func firstSource(source string) (string, error) {
	if source == "" {
		return "", tool.Usagef("which directory is to be backed up? make backup SRC=DIR")
	}
	abs, err := filepath.Abs(source)
	if err != nil {
		return "", err
	}
	st, err := os.Lstat(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", tool.Usagef("%s: no such file or directory", source)
	}
	if err != nil {
		return "", err
	}
	// A link to a directory stands for the directory.
	if to, err := os.Stat(abs); err == nil && to.IsDir() && st.Mode()&fs.ModeSymlink != 0 {
		abs += "/"
	}
	return abs, nil
}

// dataDir is where a first backup keeps its keys and its repository.
func dataDir() (string, error) {
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", &tool.Hint{Err: fmt.Errorf("find the data directory: %w", err), Text: "set HOME or XDG_DATA_HOME"}
		}
		data = filepath.Join(home, ".local/share")
	}
	if !filepath.IsAbs(data) {
		return "", tool.Usagef("the data directory %s is not absolute", data)
	}
	return filepath.Join(data, "preserve"), nil
}

// makeKeys makes the keys that are missing. A master key is made only where there is nothing
// else.
func (r *Run) makeKeys(f *First) error {
	if !f.has("master.key") && !f.has("write.key") && !f.has("read.key") && !f.has("repo") {
		if err := r.key("new", "-q", "-o", f.path("master.key")); err != nil {
			return err
		}
	}
	for _, kind := range []string{"write", "read"} {
		file := kind + ".key"
		if f.has(file) {
			continue
		}
		if !f.has("master.key") {
			return &tool.Hint{Err: fmt.Errorf("%s is missing, and so is master.key, which could make it", f.path(file)),
				Text: "put one of them there"}
		}
		if err := r.key("derive", kind, "-q", "-k", f.path("master.key"), "-o", f.path(file)); err != nil {
			return err
		}
	}
	return nil
}

// key runs pv-key.
func (r *Run) key(words ...string) error {
	cmd := exec.Command("pv-key", words...)
	cmd.Stdout, cmd.Stderr = r.env.Stderr, r.env.Stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return ErrFailed
	}
	return err
}

// firstText is what is said after a first backup, with the program that restores.
func (f *First) firstText(id, restore string) string {
	text := "snapshot " + id + "\n\n"
	if f.has("master.key") {
		text += "The master key is " + f.path("master.key") + `
The read key is   ` + f.path("read.key") + `
Move both to a safe place that does not depend on this machine: a memory stick in a
drawer, or a printout of the master key (pv-key paper). Without one of them nobody can
restore anything. Whoever has one of them can read everything. Backups need write.key
only. Keep a copy of the repository elsewhere too: ` + f.path("repo") + "\n\n"
	}
	return text + "To restore this snapshot into a new directory:\n\n  " +
		remote.Quote(restore) + " -r " + remote.Quote(f.path("repo")) + " -k " + remote.Quote(f.path("read.key")) + " " + id + " " +
		remote.Quote(filepath.Join(os.Getenv("HOME"), "restored-"+id[:8])) + "\n"
}

// endFirst prints what to do now.
func (r *Run) endFirst() {
	id := readReport(r.path(reportName), 1, 0)[0].id
	if id == "" {
		return
	}
	restore, err := exec.LookPath("pv-restore")
	if err != nil {
		restore = "pv-restore"
	}
	_, _ = fmt.Fprint(r.env.Stdout, r.First.firstText(id, restore)) // the exit status says what came of the backup
}
