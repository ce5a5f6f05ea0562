// Bench measures Preserve beside restic, borg and tar | zstd | age, on data that
// it makes itself, and prints tables of plain text. docs/benchmark.md says how
// to run it and what the figures mean.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const usage = `usage: go run ./test/bench [-rounds N] [-sets LIST] [-tools LIST] [-scale F] [-bin DIR] [-keep]

Data and repositories are made in a new directory below $BENCH_DIR, /var/tmp if
that is not set, and are removed afterwards. Tables go to stdout, progress to
stderr.

`

// options is a command line.
type options struct {
	rounds int
	sets   []string
	tools  []string
	scale  float64
	bin    string
	keep   bool
}

func main() {
	o, err := parse(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// parse reads a command line. Help goes to help, and flag.ErrHelp comes back.
func parse(args []string, help io.Writer) (options, error) {
	var o options
	var sets, tools string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.IntVar(&o.rounds, "rounds", 3, "run everything `N` times and print medians")
	f.StringVar(&sets, "sets", "source,system,random,large,nightly", "the data sets, a `LIST` with commas")
	f.StringVar(&tools, "tools", "preserve,restic,borg,tar,age", "the tools, a `LIST` with commas")
	f.Float64Var(&o.scale, "scale", 1, "make only the part `F` of the data")
	f.StringVar(&o.bin, "bin", "bin", "the directory `DIR` holds the pv-* programs")
	f.BoolVar(&o.keep, "keep", false, "leave data, repositories and restored trees behind")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(help, usage)
			f.SetOutput(help)
			f.PrintDefaults()
		}
		return o, err
	}
	o.sets, o.tools = strings.Split(sets, ","), strings.Split(tools, ",")
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.rounds < 1:
		return o, errors.New("-rounds: at least 1")
	case !(o.scale > 0 && o.scale <= 100):
		return o, errors.New("-scale: above 0, at most 100")
	}
	for _, s := range o.sets {
		if makers[s] == nil {
			return o, fmt.Errorf("-sets: no set %q", s)
		}
	}
	for _, t := range o.tools {
		if _, ok := findTool(t); !ok {
			return o, fmt.Errorf("-tools: no tool %q", t)
		}
	}
	return o, nil
}

// run makes the data, measures, and prints. The first tool that fails, or that
// restores anything but what it was given, ends it.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if err := adoptOrphans(); err != nil {
		return err
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", bin+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	tools, missing := present(o.tools)
	for _, m := range missing {
		if strings.HasPrefix(m, "preserve") {
			return fmt.Errorf("%s; run make first, or leave it out with -tools", m)
		}
	}
	if len(tools) == 0 {
		return fmt.Errorf("nothing to measure: %s", strings.Join(missing, "; "))
	}

	base := os.Getenv("BENCH_DIR")
	if base == "" {
		base = "/var/tmp"
	}
	work, err := os.MkdirTemp(base, "preserve-bench-")
	if err != nil {
		return err
	}
	if o.keep {
		defer fmt.Fprintf(stderr, "bench: kept %s\n", work)
	} else {
		defer remove(work)
	}

	b := &bench{ctx: ctx, options: o, work: work, tools: tools, progress: stderr}
	b.cold = dropCaches() == nil
	describe(stdout, b, missing)
	for _, name := range o.sets {
		set, err := b.make(name)
		if err != nil {
			return fmt.Errorf("make the data set %s: %w", name, err)
		}
		if name == "nightly" {
			err = b.nightly(set, stdout)
		} else {
			err = b.firstRuns(set, stdout)
		}
		if err != nil {
			return err
		}
		if !o.keep {
			remove(set.dir)
		}
	}
	return nil
}

// firstRuns measures first backups of a set, and their restores.
func (b *bench) firstRuns(s dataSet, w io.Writer) error {
	results, err := b.measureSet(s)
	if err != nil {
		return err
	}
	report(w, s, of(b.tools, s.name), results)
	return nil
}

// remove deletes a tree in which a restore may have left directories that not
// even their owner can write.
func remove(dir string) {
	if os.RemoveAll(dir) == nil {
		return
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
