package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"-rounds", "2", "-sets", "random,source", "-tools", "tar", "-scale", "0.5", "-keep"}, io.Discard)
	if err != nil || o.rounds != 2 || len(o.sets) != 2 || o.sets[0] != "random" || len(o.tools) != 1 || o.scale != 0.5 || !o.keep {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range []string{"-rounds 0", "-sets x", "-tools preserve,x", "-scale 0", "-scale NaN", "more", "-what"} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
	var help bytes.Buffer
	if _, err := parse([]string{"-h"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(help.String(), "usage: ") {
		t.Errorf("-h: %v, %q", err, help.String())
	}
}

func TestMedian(t *testing.T) {
	runs := []figures{{repo: 9}, {repo: 1}, {repo: 2}, {repo: 4}}
	value := func(f figures) float64 { return float64(f.repo) }
	for n, want := range []float64{0, 9, 5, 2, 3} {
		if got := median(runs[:n], value); got != want {
			t.Errorf("median of %d: %v, want %v", n, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	runs := map[string]*result{
		"preserve": {backup: []figures{{wall: time.Second, repo: 10 * mb}, {wall: 3 * time.Second, repo: 10 * mb}}},
		"tar":      {backup: []figures{{wall: 4 * time.Second, repo: 20 * mb}}},
	}
	cols := []column{columns[0], columns[3]}
	table(&out, "backup", cols, []tool{{name: "preserve"}, {name: "tar"}}, func(n string) []figures { return runs[n].backup })
	want := `
backup    wall s       repository MB
preserve  2.00         10.0
tar       4.00 (0.50)  20.0 (0.50)
`
	if out.String() != want {
		t.Errorf("got %s\nwant %s", out.String(), want)
	}
}

// TestMeasure: all stages of a pipeline count, those too that their shell did not
// wait for.
func TestMeasure(t *testing.T) {
	if err := adoptOrphans(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(t.TempDir(), "log")
	const busy = `sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done'`
	one, err := measure(context.Background(), busy, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	three, err := measure(context.Background(), busy+" | "+busy+"; (sh -c '("+busy[7:len(busy)-1]+") &')", nil, log)
	if err != nil {
		t.Fatal(err)
	}
	if three.cpu < 2*one.cpu || three.cpu > 6*one.cpu {
		t.Errorf("one loop takes %v, three take %v", one.cpu, three.cpu)
	}
	f, err := measure(context.Background(), `x=$(head -c 50000000 /dev/zero | tr '\0' a); sleep 0.3; echo "$V"`, []string{"V=said"}, log)
	if err != nil {
		t.Fatal(err)
	}
	if f.memory < 40*mb || f.wall < 300*time.Millisecond {
		t.Errorf("holding 50 MB for 0.3 s: %d bytes, %v", f.memory, f.wall)
	}
	if b, _ := os.ReadFile(log); string(b) != "said\n" {
		t.Errorf("log holds %q", b)
	}

	if _, err := measure(context.Background(), "echo why >&2; false; echo not", nil, log); err == nil || !strings.Contains(err.Error(), "exit status 1\nwhy") {
		t.Errorf("a script that fails: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if f, err := measure(ctx, "sleep 60 | sleep 60", nil, log); err == nil || f.wall > 30*time.Second {
		t.Errorf("canceled: %v, %v", f.wall, err)
	}
}

// TestRandom: the random files are the same on every machine.
func TestRandom(t *testing.T) {
	var sums [2]string
	for i := range sums {
		b := &bench{ctx: context.Background(), work: t.TempDir(), progress: io.Discard}
		b.scale = 0.002
		s, err := b.make("random")
		if err != nil {
			t.Fatal(err)
		}
		if s.bytes != 1_200_000 {
			t.Errorf("%d bytes", s.bytes)
		}
		data, err := os.ReadFile(filepath.Join(s.dir, "random-000"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(data)
	}
	if sums[0] != sums[1] {
		t.Error("they differ")
	}
}
