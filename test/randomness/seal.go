package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// A sealer makes repositories with the tools in bin.
type sealer struct {
	ctx      context.Context
	bin      string
	work     string
	progress io.Writer
	made     int
}

// How much plaintext one run of the tools is given.
const perRun = 256 << 20

// repository makes a repository that holds at least so many bytes of sealed data,
// under a new master key, and returns its directory.
func (s *sealer) repository(size int64) (string, error) {
	s.made++
	dir := filepath.Join(s.work, fmt.Sprint(s.made))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	repo := filepath.Join(dir, "repo")
	if err := s.sh(dir, `pv-key -q new -o key`, nil); err != nil {
		return "", err
	}
	const put = ` | pv-seal -k key | pv-put repo >>ids`
	stdin := `pv-scan --stdin plain | pv-chunk -k key` + put
	have := int64(0)
	for round := uint64(0); have < size; round++ {
		todo := perRun
		if size-have < perRun/8 { // counters and text become a quarter of their size, roughly
			todo = int(size-have)*4 + 1<<20
		}
		for _, part := range []struct {
			script string
			plain  func(w io.Writer) error
		}{
			{stdin, func(w io.Writer) error { return zeros(w, 32<<20) }},
			{stdin, func(w io.Writer) error { return text(w, round, todo) }},
			{stdin, func(w io.Writer) error { return counters(w, round, todo) }},
			{`cat` + put, func(w io.Writer) error { return small(w, round, min(60_000, todo>>9)) }},
		} {
			if err := s.sh(dir, part.script, part.plain); err != nil {
				return "", err
			}
		}
		have = 0
		err := sealed(repo, func(b blob) error { have += int64(len(b.data)); return nil })
		if err != nil {
			return "", err
		}
		fmt.Fprintf(s.progress, "randomness: %d MB sealed\n", have/mb)
	}
	return repo, nil
}

// sh runs a pipeline in dir with what plain writes as its input.
func (s *sealer) sh(dir, script string, plain func(io.Writer) error) error {
	cmd := exec.CommandContext(s.ctx, "bash", "-c", "set -euo pipefail; "+script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+s.bin+":"+os.Getenv("PATH"))
	cmd.Stderr = os.Stderr
	if plain == nil {
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", script, err)
		}
		return nil
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w := bufio.NewWriterSize(in, 1<<20)
	wrote := plain(w)
	if wrote == nil {
		wrote = w.Flush()
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w", script, err)
	}
	return wrote
}
