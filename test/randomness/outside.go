package main

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// outside asks programs that others wrote.
func outside(b []byte, dir string) ([]finding, error) {
	file := filepath.Join(dir, "sample")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return nil, err
	}
	defer os.Remove(file)
	entropy, chi, err := ent(file)
	if err != nil {
		return nil, err
	}
	blocks, failures, err := rngtest(b)
	if err != nil {
		return nil, err
	}
	found := []finding{chi, entropy, rngtestBound(blocks, failures)}
	for _, c := range []struct {
		name string
		b    []byte
		args []string
	}{
		{"zstd -3 --long=27", b, []string{"zstd", "-q", "-3", "--long=27", "-c"}},
		{"xz -1, 2 MB", b[:min(len(b), 2*mb)], []string{"xz", "-1", "-T1", "-c"}},
	} {
		cmd := exec.Command(c.args[0], c.args[1:]...)
		cmd.Stdin = bytes.NewReader(c.b)
		var size counter
		cmd.Stdout = &size
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%s: %w", c.args[0], err)
		}
		found = append(found, finding{c.name, fmt.Sprintf("to %.4f %%", 100*float64(size)/float64(len(c.b))), int(size) < len(c.b)})
	}
	return found, nil
}

// counter counts what is written to it.
type counter int

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

// ent reads the second line of ent -t: number, bytes, entropy, chi-square, …
func ent(file string) (entropy, chi finding, err error) {
	out, err := exec.Command("ent", "-t", file).Output()
	if err != nil {
		return entropy, chi, fmt.Errorf("ent: %w", err)
	}
	_, line, _ := strings.Cut(string(out), "\n")
	f := strings.Split(strings.TrimSpace(line), ",")
	if len(f) < 4 {
		return entropy, chi, fmt.Errorf("ent: %q", out)
	}
	n, err1 := strconv.ParseFloat(f[1], 64)
	h, err2 := strconv.ParseFloat(f[2], 64)
	x, err3 := strconv.ParseFloat(f[3], 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return entropy, chi, fmt.Errorf("ent: %q", out)
	}
	z := normal(x, 255)
	// Noise of n bytes has 255/(2 n ln 2) bits less than 8; twice that is far out,
	// and ent prints six digits.
	least := 8 - 255/(n*math.Ln2) - 1e-6
	return finding{"ent, entropy of a byte", f[2], h < least},
		finding{"ent, chi-square", fmt.Sprintf("%+.2f sd", z), !(math.Abs(z) <= farOutEnt)}, nil
}

var rngtestCounts = regexp.MustCompile(`FIPS 140-2 (successes|failures): (\d+)`)

// rngtest is the FIPS 140-2 tests of each 20,000 bits.
func rngtest(b []byte) (blocks, failures int, err error) {
	cmd := exec.Command("rngtest")
	cmd.Stdin = bytes.NewReader(b)
	out, _ := cmd.CombinedOutput() // its status says whether there was a failure
	all := rngtestCounts.FindAllStringSubmatch(string(out), -1)
	if len(all) != 2 {
		return 0, 0, fmt.Errorf("rngtest: %q", out)
	}
	good, _ := strconv.Atoi(all[0][2])
	bad, _ := strconv.Atoi(all[1][2])
	return good + bad, bad, nil
}

// rngtestBound: noise fails in 0.08 % of the blocks, 32 in 100 MB. The bound is six
// standard deviations more: 66 there.
func rngtestBound(blocks, failures int) finding {
	mean := float64(blocks) * 0.0008
	bound := mean + 6*math.Sqrt(mean) + 1
	return finding{"rngtest, failures", fmt.Sprintf("%d of %d", failures, blocks), float64(failures) > bound}
}
