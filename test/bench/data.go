package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const mb = 1_000_000

// A dataSet is one tree to back up.
type dataSet struct {
	name  string
	what  string
	dir   string
	files int
	bytes int64
}

// makers make the data sets in an empty directory, of a size that scale is
// applied to, and return a line about what is in it.
var makers = map[string]func(ctx context.Context, dir string, scale float64) (string, error){
	"source":  makeSource,
	"system":  makeSystem,
	"random":  makeRandom,
	"large":   makeLarge,
	"nightly": makeNightly,
}

// make makes the named set below the work directory and counts it.
func (b *bench) make(name string) (dataSet, error) {
	s := dataSet{name: name, dir: filepath.Join(b.work, "set", name)}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return s, err
	}
	b.say("making the data set %s", name)
	var err error
	if s.what, err = makers[name](b.ctx, s.dir, b.scale); err != nil {
		return s, err
	}
	err = filepath.WalkDir(s.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			s.files++
			s.bytes += info.Size()
		}
		return err
	})
	if err == nil && s.files == 0 {
		err = fmt.Errorf("no file found to make it of")
	}
	return s, err
}

// A selection gathers paths to copy until their sizes come to a limit.
type selection struct {
	list  bytes.Buffer // paths relative to /, each with a NUL behind it
	bytes int64
	limit int64
}

func (s *selection) full() bool { return s.bytes >= s.limit }

// add adds an absolute path, of which the copy is as large as size.
func (s *selection) add(path string, size int64) {
	s.list.WriteString("." + path + "\x00")
	s.bytes += size
}

// copyTo copies the selection to below dir, with all metadata that tar knows.
func (s *selection) copyTo(ctx context.Context, dir string) error {
	out := exec.CommandContext(ctx, "tar", "-C", "/", "--xattrs", "--no-recursion", "--null", "-cf", "-", "-T", "-")
	in := exec.CommandContext(ctx, "tar", "-C", dir, "--xattrs", "-xpf", "-")
	out.Stdin = &s.list
	pipe, err := out.StdoutPipe()
	if err != nil {
		return err
	}
	in.Stdin = pipe
	var said, alsoSaid bytes.Buffer
	out.Stderr, in.Stderr = &alsoSaid, &said
	if err := in.Start(); err != nil {
		return err
	}
	if err := out.Run(); err != nil {
		return fmt.Errorf("tar -c: %w: %s", err, bytes.TrimSpace(alsoSaid.Bytes()))
	}
	if err := in.Wait(); err != nil {
		return fmt.Errorf("tar -x: %w: %s", err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// sourceNames are the endings of files that people write.
var sourceNames = map[string]bool{
	".go": true, ".s": true, ".mod": true, ".c": true, ".h": true, ".cc": true, ".cpp": true, ".hpp": true,
	".py": true, ".pl": true, ".pm": true, ".rb": true, ".js": true, ".ts": true, ".java": true, ".rs": true,
	".sh": true, ".tcl": true, ".lua": true, ".el": true, ".sql": true, ".proto": true, ".css": true,
	".md": true, ".txt": true, ".rst": true, ".html": true, ".json": true, ".yaml": true, ".yml": true,
}

// sourceRoots are where files are copied from, Go's own first.
func sourceRoots(ctx context.Context) (roots []string) {
	for _, v := range []string{"GOROOT", "GOMODCACHE"} {
		out, err := exec.CommandContext(ctx, "go", "env", v).Output()
		if root := strings.TrimSpace(string(out)); err == nil && root != "" {
			roots = append(roots, root)
		}
	}
	return append(roots, "/usr/include", "/usr/share", "/usr/lib")
}

// makeSource copies source text: small files, first those of Go itself.
func makeSource(ctx context.Context, dir string, scale float64) (string, error) {
	roots := sourceRoots(ctx)
	s := &selection{limit: int64(600 * mb * scale)}
	for _, root := range roots {
		// The cache proper of modules holds what is beside it a second time.
		skip := filepath.Join(root, "cache")
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case s.full():
				return fs.SkipAll
			case err != nil || d.IsDir() && path == skip:
				return fs.SkipDir
			case d.Type().IsRegular() && sourceNames[filepath.Ext(path)]:
				if size, ok := isText(path); ok {
					s.add(path, size)
				}
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return "source text out of " + strings.Join(roots, ", "), s.copyTo(ctx, dir)
}

// isText reports whether a file is of at most 1 MiB, not empty, and begins
// without a NUL byte, and returns its size.
func isText(path string) (int64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || info.Size() > 1<<20 {
		return 0, false
	}
	b := make([]byte, 4096)
	n, err := io.ReadFull(f, b)
	if n == 0 || err != nil && err != io.ErrUnexpectedEOF {
		return 0, false
	}
	return info.Size(), bytes.IndexByte(b[:n], 0) < 0
}

// makeSystem copies a system tree: programs, libraries, data, links. No more than
// an eighth of it comes out of any one entry of the directories named.
func makeSystem(ctx context.Context, dir string, scale float64) (string, error) {
	s := &selection{limit: int64(800 * mb * scale)}
	roots := []string{"/usr/bin", "/usr/share", "/usr/lib"}
	for i, root := range roots {
		entries, err := os.ReadDir(root)
		if err != nil {
			continue
		}
		s.add(root, 0)
		// Each root gets its part of what is left.
		stop := s.bytes + (s.limit-s.bytes)/int64(len(roots)-i)
		for _, e := range entries {
			limit := min(s.bytes+s.limit/8, stop)
			err := filepath.WalkDir(filepath.Join(root, e.Name()), func(path string, d fs.DirEntry, err error) error {
				switch {
				case ctx.Err() != nil:
					return ctx.Err()
				case s.bytes >= limit:
					return fs.SkipAll
				case err != nil:
					return fs.SkipDir
				case d.Type().IsRegular():
					info, err := d.Info()
					f, openErr := os.Open(path)
					if err == nil && openErr == nil {
						f.Close()
						s.add(path, info.Size())
					}
				default:
					s.add(path, 0)
				}
				return nil
			})
			if err != nil {
				return "", err
			}
		}
	}
	return "a system tree out of " + strings.Join(roots, ", "), s.copyTo(ctx, dir)
}

// makeRandom writes files of 1 to 64 MB that cannot be compressed, the same ones
// every time.
func makeRandom(ctx context.Context, dir string, scale float64) (string, error) {
	r := rand.NewChaCha8([32]byte([]byte("incompressible files for a bench")))
	sizes := rand.New(r)
	for i, left := 0, int64(600*mb*scale); left > 0; i++ {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		size := min(left, mb<<sizes.IntN(6)+sizes.Int64N(32*mb))
		left -= size
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("random-%03d", i)))
		if err != nil {
			return "", err
		}
		_, err = io.CopyN(f, r, size)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return "", err
		}
	}
	return "incompressible files of 1 to 64 MB", nil
}

// makeLarge writes a single file that cannot be compressed, the same one every
// time.
func makeLarge(_ context.Context, dir string, scale float64) (string, error) {
	f, err := os.Create(filepath.Join(dir, "large"))
	if err != nil {
		return "", err
	}
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte([]byte("one incompressible file of bench"))), int64(1000*mb*scale))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return "one incompressible file", err
}
