package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// describe prints what is measured, on what, and what is missing.
func describe(w io.Writer, b *bench, missing []string) {
	fmt.Fprintf(w, "machine: %s, %d processors; %s memory; %s; work directory on %s\n",
		field("/proc/cpuinfo", "model name"), runtime.NumCPU(), field("/proc/meminfo", "MemTotal"),
		output("uname", "-sr"), output("stat", "-f", "-c", "%T", b.work))
	for _, t := range b.tools {
		fmt.Fprintf(w, "%s: %s\n", t.name, t.versions())
	}
	for _, m := range missing {
		fmt.Fprintf(w, "MISSING: %s\n", m)
	}
	caches := "dropped before every run (cold)"
	if !b.cold {
		caches = "NOT dropped, only root may (warm)"
	}
	fmt.Fprintf(w, "rounds: %d, interleaved, medians; scale %g; file caches %s\n", b.rounds, b.scale, caches)
	fmt.Fprintf(w, "cpu: user and system time of all processes; memory: largest sum of Pss, sampled every %v;\n", sampleEvery)
	fmt.Fprint(w, "MB: 10^6 bytes; in brackets: what Preserve took, divided by what this tool took\n")
}

// field returns the value of the first line "name: value" of a file.
func field(file, name string) string {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return "unknown"
}

func output(name string, args ...string) string {
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		return "unknown"
	}
	return string(bytes.TrimSpace(out))
}

// A column is one figure of a table.
type column struct {
	title string
	value func(figures) float64
	form  string
}

var columns = []column{
	{"wall s", func(f figures) float64 { return f.wall.Seconds() }, "%.2f"},
	{"cpu s", func(f figures) float64 { return f.cpu.Seconds() }, "%.2f"},
	{"memory MB", func(f figures) float64 { return float64(f.memory) / mb }, "%.0f"},
	{"repository MB", func(f figures) float64 { return float64(f.repo) / mb }, "%.1f"},
}

// report prints the two tables of a data set.
func report(w io.Writer, s dataSet, tools []tool, results map[string]*result) {
	fmt.Fprintf(w, "\n%s: %s in %d files; %s\n", s.name, megabytes(s.bytes), s.files, s.what)
	table(w, "backup", columns, tools, func(name string) []figures { return results[name].backup })
	table(w, "restore", columns[:3], tools, func(name string) []figures { return results[name].restore })
}

// table prints a line for each tool: medians, and the ratio of Preserve to it.
func table(w io.Writer, verb string, columns []column, tools []tool, of func(tool string) []figures) {
	fmt.Fprintln(w)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, verb)
	for _, c := range columns {
		fmt.Fprintf(tw, "\t%s", c.title)
	}
	fmt.Fprintln(tw)
	measured := slices.ContainsFunc(tools, func(t tool) bool { return t.name == "preserve" })
	for _, t := range tools {
		fmt.Fprint(tw, t.name)
		for _, c := range columns {
			v := median(of(t.name), c.value)
			fmt.Fprintf(tw, "\t"+c.form, v)
			if measured && t.name != "preserve" {
				fmt.Fprintf(tw, " (%.2f)", median(of("preserve"), c.value)/v)
			}
		}
		fmt.Fprintln(tw)
	}
	tw.Flush()
}

// median returns the middle of the values, or the mean of the two in the middle.
func median(runs []figures, value func(figures) float64) float64 {
	v := make([]float64, len(runs))
	for i, f := range runs {
		v[i] = value(f)
	}
	slices.Sort(v)
	n := len(v)
	if n == 0 {
		return 0
	}
	return (v[(n-1)/2] + v[n/2]) / 2
}

// megabytes writes a number of bytes in MB.
func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/mb) }
