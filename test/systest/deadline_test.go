//go:build system

package systest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A relay stands between ssh and sshd. After some bytes it stops: both connections
// stay open, and nothing goes through them any more, as when a cable is cut.
type relay struct {
	port int
	left atomic.Int64 // bytes to the server that still go through
	dead chan struct{}
	once sync.Once
}

func newRelay(t *testing.T, to string, limit int64) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{port: l.Addr().(*net.TCPAddr).Port, dead: make(chan struct{})}
	r.left.Store(limit)
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			_ = c.Close()
		}
	})
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			mu.Lock()
			open = append(open, client, server)
			mu.Unlock()
			go r.pass(server, client, true)
			go r.pass(client, server, false)
		}
	}()
	return r
}

func (r *relay) pass(to, from net.Conn, counts bool) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if counts && r.left.Add(-int64(n)) <= 0 {
			r.once.Do(func() { close(r.dead) })
		}
		select {
		case <-r.dead:
			return // and nobody is told
		default:
		}
		if n > 0 {
			if _, werr := to.Write(b[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			if err == io.EOF {
				_ = to.(*net.TCPConn).CloseWrite()
			}
			return
		}
	}
}

// collectorGets reports whether the exclusive lock of a repository is free.
func collectorGets(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) == nil
}

// TestDeadLine cuts the line, so that nobody hears of it: pv-put over there gives up
// after its limit, frees the lock, commits nothing, and keeps what was whole.
func TestDeadLine(t *testing.T) {
	b := newBench(t)
	url := b.sshd("")
	b.ok("mkdir src && for n in $(seq 60); do head -c 1000000 /dev/urandom >src/$n; done; pv-backup -q -r repo -k write.key ssh/config")
	r := newRelay(t, url[strings.LastIndexByte(url, '@')+1:], 30_000_000)
	b.ok(fmt.Sprintf("sed 's/^\\[127.0.0.1\\]:[0-9]*/[127.0.0.1]:%d/' ssh/known >>ssh/known2 && cat ssh/known2 >>ssh/known", r.port))
	ssh := fmt.Sprintf("$PV_SSH -p %d root@127.0.0.1 ", r.port)
	// A short limit over there; here nobody has one.
	cmd := exec.Command("sh", "-c", `pv-scan src | pv-chunk -k write.key | pv-seal -k write.key | `+ssh+`"pv-put --stall 3s $PWD/repo 2>$PWD/said; echo \$? >$PWD/status"`)
	cmd.Dir, cmd.Env = b.dir, b.env
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // all of the pipeline that was started here
		_ = cmd.Wait()
	})
	select {
	case <-r.dead:
	case <-time.After(2 * time.Minute):
		t.Fatal("not so much has been sent")
	}
	if collectorGets(b.path("repo/lock")) {
		t.Error("the lock is free while pv-put waits")
	}
	for end := time.Now().Add(2 * time.Minute); b.ok("cat status 2>/dev/null || true") == ""; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("pv-put over there does not give up")
		}
	}
	if status, said := b.ok("cat status"), b.ok("cat said"); status != "1" || said != "pv-put: nothing arrived for too long: the stage before hangs or the connection is dead" {
		t.Errorf("status %s, %s", status, said)
	}
	if !collectorGets(b.path("repo/lock")) {
		t.Error("the lock is not free")
	}
	if n := b.ok("ls repo/snapshots | wc -l; ls repo/tmp"); n != "1" {
		t.Errorf("snapshots, temporaries: %s", n)
	}
	// The next run, over a line that lives, sends the rest only.
	b.ok("pv-get repo --ids >known; pv-scan src | pv-chunk -k write.key | pv-seal -k write.key --known known | tee sealed | pv-put repo >id && pv-verify -q -r repo -k read.key $(cat id)")
	if n := b.number("wc -c <sealed"); n > 40_000_000 {
		t.Errorf("%d bytes were sent again", n)
	}
}

// TestTeeTargets gives one backup to several repositories, of which one is killed,
// one becomes full, one hangs, one is slow. The others get it all.
func TestTeeTargets(t *testing.T) {
	b := newBench(t)
	b.need(true, "mount", "python3")
	b.ok("mkdir src full && for n in $(seq 80); do head -c 1000000 /dev/urandom >src/$n; done; mount -t tmpfs -o size=20m tmpfs full")
	t.Cleanup(func() { b.ok("umount full") })
	// One stops, and takes nothing. Even so it can be ended.
	b.ok(`cat >hang <<'END'
#!/bin/sh
sh -c 'echo $$ >stopped.pid; head -c 5000000; kill -STOP $$; cat' | pv-put hung
END
cat >dies <<'END'
#!/bin/sh
{ head -c 5000000; until [ -s dies.pid ]; do sleep 0.01; done; kill -9 $(cat dies.pid); cat >/dev/null; } | sh -c 'echo $$ >dies.pid; exec pv-put killed'
END
cat >slow <<'END'
#!/usr/bin/env python3
import sys, time
while b := sys.stdin.buffer.read(1 << 20):
    time.sleep(0.05)
    sys.stdout.buffer.write(b)
END
chmod +x hang dies slow`)
	out := b.ok(`pv-scan src | pv-chunk -k write.key | pv-seal -k write.key |
		pv-tee --stall 15s 'pv-put good' ./dies 'pv-put full/repo' ./hang './slow | pv-put slowly' 'pv-put fine' >report 2>said; echo "status $?"; sort report`)
	lines := strings.Split(out, "\n")
	id := ""
	for _, l := range lines {
		if i, ok := strings.CutPrefix(l, "1 "); ok && len(i) == 64 {
			id = i
		}
	}
	want := fmt.Sprintf("status 3\n1 %s\n1 exit 0\n2 exit 137\n3 exit 1\n4 exit ", id)
	if id == "" || !strings.HasPrefix(out, want) || !strings.HasSuffix(out, fmt.Sprintf("\n5 %s\n5 exit 0\n6 %s\n6 exit 0", id, id)) || strings.Contains(out, "4 exit 0") || strings.Contains(out, "4 exit 3") {
		t.Errorf("%s\nwant %s\n%s", out, want, b.ok("cat said"))
	}
	said := b.ok("cat said")
	for _, text := range []string{"command 2, ./dies: exit status 137", "the file system of \"full/repo\" is full", "command 4, ./hang: has taken nothing for 15s: it is given up"} {
		if !strings.Contains(said, text) {
			t.Errorf("%q is not said:\n%s", text, said)
		}
	}
	b.ok("for r in good slowly fine; do pv-verify -q -r $r -k read.key " + id + " || exit; done; [ -z \"$(find killed/snapshots full/repo/snapshots hung/snapshots -type f)\" ]")
	// Nothing that was stopped lives on.
	b.ok("n=0; while kill -0 $(cat stopped.pid) 2>/dev/null; do n=$((n + 1)); [ $n -lt 100 ]; sleep 0.1; done")
}
