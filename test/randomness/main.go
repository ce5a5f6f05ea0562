// Randomness seals very regular plaintext with the real tools, takes what ought to
// look like noise out of the repository, and asks programs and formulas whether it
// does. The same questions are asked of ciphertext with planted faults, and each
// fault has to be found. docs/randomness.md says what the answers mean.
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
	"syscall"
)

const usage = `usage: go run ./test/randomness [-size MB] [-bin DIR] [-extract FILE]

Keys and the repository are made in a new directory below $TMPDIR, and are removed
afterwards. The result goes to stdout, progress to stderr.

`

const mb = 1_000_000

// options is a command line.
type options struct {
	size    int64 // bytes of sealed data, at least
	bin     string
	extract string
}

func main() {
	o, err := parse(os.Args[1:], os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "randomness: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "randomness: %v\n", err)
		os.Exit(1)
	}
}

// parse reads a command line. Help goes to help, and flag.ErrHelp comes back.
func parse(args []string, help io.Writer) (options, error) {
	var o options
	var size int64
	f := flag.NewFlagSet("randomness", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Int64Var(&size, "size", 100, "seal until there are `MB` of sealed data, in units of 10^6 bytes")
	f.StringVar(&o.bin, "bin", "bin", "the `DIR` where make left the tools")
	f.StringVar(&o.extract, "extract", "", "only write the sealed data to `FILE`, for a program that tests randomness")
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(help, usage)
		f.SetOutput(help)
		f.PrintDefaults()
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("%q: no arguments are taken", f.Arg(0))
	case size < 1 || size > 100_000:
		err = fmt.Errorf("-size %d: must be 1 to 100000", size)
	}
	o.size = size * mb
	return o, err
}

func run(ctx context.Context, o options, out, progress io.Writer) error {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "randomness-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	s := &sealer{ctx: ctx, bin: bin, work: work, progress: progress}
	if o.extract != "" {
		return extract(s, o)
	}
	return judge(s, o, out)
}

// extract writes the sealed data of a fresh repository to a file.
func extract(s *sealer, o options) (err error) {
	f, err := os.OpenFile(o.extract, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	repo, err := s.repository(o.size)
	if err != nil {
		return err
	}
	return sealed(repo, func(b blob) error {
		_, err := f.Write(b.data)
		return err
	})
}
