package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// figures are what one run of one pipeline took.
type figures struct {
	wall   time.Duration
	cpu    time.Duration // user and system, of all processes
	memory int64         // bytes: the largest sum of Pss seen
	repo   int64         // bytes: apparent size of the repository afterwards
}

const (
	sampleEvery     = 50 * time.Millisecond
	logTail         = 4 << 10
	prSetSubreaper  = 36 // PR_SET_CHILD_SUBREAPER of prctl(2)
	pipefailPrelude = "(set -o pipefail) 2>/dev/null && set -o pipefail\nset -eu\n"
)

// adoptOrphans makes this process the parent of those of its descendants whose
// own parent ends first, so that their time is counted too.
func adoptOrphans() error {
	if _, _, e := syscall.RawSyscall(syscall.SYS_PRCTL, prSetSubreaper, 1, 0); e != 0 {
		return fmt.Errorf("prctl: %w", e)
	}
	return nil
}

// measure runs script with sh in a process group of its own, waits for every
// process in it, and returns what they took together. What they print goes to
// the file log, of which the end is in the error when the script fails. At the
// end of ctx the group is killed.
func measure(ctx context.Context, script string, env []string, log string) (figures, error) {
	var f figures
	if err := ctx.Err(); err != nil {
		return f, err
	}
	out, err := os.Create(log)
	if err != nil {
		return f, err
	}
	defer out.Close()
	cmd := exec.Command("sh", "-c", pipefailPrelude+script)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}

	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return f, err
	}
	pid := cmd.Process.Pid
	defer cmd.Process.Release()
	defer context.AfterFunc(ctx, func() { _ = syscall.Kill(-pid, syscall.SIGKILL) })()
	stop, peak := make(chan struct{}), make(chan int64)
	go func() { peak <- samplePeak(pid, stop) }()

	// The shell's usage holds that of the stages it has waited for; orphans come
	// one by one.
	status := syscall.WaitStatus(1 << 8)
	for {
		var s syscall.WaitStatus
		var u syscall.Rusage
		p, err := syscall.Wait4(-pid, &s, 0, &u)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			break // ECHILD: all are gone
		}
		f.cpu += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		if p == pid {
			status = s
		}
	}
	f.wall = time.Since(begin)
	close(stop)
	f.memory = <-peak
	if err := ctx.Err(); err != nil {
		return f, err
	}
	if status != 0 {
		what := fmt.Sprintf("exit status %d", status.ExitStatus())
		if status.Signaled() {
			what = status.Signal().String()
		}
		return f, fmt.Errorf("%s: %s\n%s", strings.TrimSpace(script), what, tail(log))
	}
	return f, nil
}

// tail returns the end of a file.
func tail(name string) []byte {
	b, _ := os.ReadFile(name)
	return bytes.TrimSpace(b[max(0, len(b)-logTail):])
}

// samplePeak looks at the memory of all processes of a group until stop is
// closed, and returns the largest sum.
func samplePeak(group int, stop <-chan struct{}) int64 {
	var peak int64
	t := time.NewTicker(sampleEvery)
	defer t.Stop()
	for {
		var sum int64
		for _, pid := range members(group) {
			sum += pss(pid)
		}
		peak = max(peak, sum)
		select {
		case <-stop:
			return peak
		case <-t.C:
		}
	}
}

// members returns the ids of all processes of a group.
func members(group int) []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var list []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		// The name in brackets may hold anything; state, parent and group follow.
		b, _ := os.ReadFile("/proc/" + name + "/stat")
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) > 2 && string(f[2]) == strconv.Itoa(group) {
			list = append(list, pid)
		}
	}
	return list
}

// pss returns the proportional set size of a process in bytes: its own memory,
// and its share of what it shares with others. 0 if the process is gone.
func pss(pid int) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(v, "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// dropCaches writes what is dirty and forgets what is clean, so that the next run
// reads from the disk. Only root may.
func dropCaches() error {
	syscall.Sync()
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
}
