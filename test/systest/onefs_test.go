//go:build system

package systest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inside runs a script as root in a mount namespace of its own, so that its mounts
// end with it.
func (b *bench) inside(script string) string {
	b.Helper()
	if err := os.WriteFile(b.path("inside.sh"), []byte("set -eu\n"+script), 0o600); err != nil {
		b.Fatal(err)
	}
	return b.ok("unshare --mount --propagation private sh inside.sh 2>&1")
}

// listed shows the paths of a tree stream, those of directories with "/" behind.
const listed = `listed() { pv-json | jq -r 'select(.t == "entry") | .path + (if .type == "dir" then "/" else "" end)' | paste -s -d ' ' -; }
`

// busy is a tree with mounts of many kinds.
const busy = listed + `mkdir -p src/bind src/bindself src/d src/tmp src/z far/in
	echo a >src/d/a; echo hidden >src/file; echo far >far/file; echo far >far/in/f
	mount --bind far src/bind
	mount --bind src/d src/bindself
	mount --bind far/file src/file
	mount -t tmpfs tmpfs src/tmp
	mkdir -p src/tmp/deep/er src/tmp/nested
	echo b >src/tmp/b; echo c >src/tmp/deep/er/c
	mount -t tmpfs tmpfs src/tmp/nested
	mkdir src/tmp/nested/dir; echo d >src/tmp/nested/dir/d
	mount -t tmpfs tmpfs src/bind/in
	chmod 750 src/tmp; chmod 700 src/z
	touch src/z/z
`

func TestOneFileSystem(t *testing.T) {
	b := newBench(t)
	b.need(true, "unshare", "mount", "jq")
	for _, c := range []struct{ what, sources, want string }{
		{"mount points are empty directories, a file mounted over another is left out", "src",
			"src/ src/bind/ src/bindself/ src/d/ src/d/a src/tmp/ src/z/ src/z/z"},
		{"each source is on its own file system", "src src/tmp",
			"src/ src/bind/ src/bindself/ src/d/ src/d/a src/tmp/ src/tmp/b src/tmp/deep/ src/tmp/deep/er/ src/tmp/deep/er/c src/tmp/nested/ src/z/ src/z/z"},
		{"a source may lie below a mount point", "src src/tmp/deep/er src/tmp/nested src/d",
			"src/ src/bind/ src/bindself/ src/d/ src/d/a src/tmp/ src/tmp/deep/ src/tmp/deep/er/ src/tmp/deep/er/c src/tmp/nested/ src/tmp/nested/dir/ src/tmp/nested/dir/d src/z/ src/z/z"},
		{"a source may be a file that is mounted", "src src/file src/bind/file",
			"src/ src/bind/ src/bind/file src/bindself/ src/d/ src/d/a src/file src/tmp/ src/z/ src/z/z"},
		{"a source may be a mount point alone", "src/tmp src/bind",
			"src/ src/bind/ src/bind/file src/bind/in/ src/tmp/ src/tmp/b src/tmp/deep/ src/tmp/deep/er/ src/tmp/deep/er/c src/tmp/nested/"},
	} {
		if got := b.inside(busy + "pv-scan -q -x " + c.sources + " | listed; rm -rf far src 2>&1 || :"); !strings.HasPrefix(got+"\n", c.want+"\n") {
			t.Errorf("%s:\n%s\nwant\n%s", c.what, got, c.want)
		}
		b.ok("rm -rf src far")
	}
}

// TestOneFileSystemTold: the places are named, the status is 0, and a restore has
// empty directories there, with a made-up mode: nobody looked at what was mounted.
// What else was asked for is there.
func TestOneFileSystemTold(t *testing.T) {
	b := newBench(t)
	b.need(true, "unshare", "mount", "jq")
	told := b.inside(busy + `mkdir other; mount -t tmpfs tmpfs other; mkdir other/dir
		ln -s ../other/dir src/to-other
		pv-scan -x src >tree
		pv-scan -v -x src | pv-chunk -k write.key >content
		echo dereferenced; pv-scan -x --dereference src | listed
		pv-backup --one-file-system -r repo -k write.key src src/tmp/deep
		cd /; PV_KEY=` + b.path("read.key") + ` pv-restore -r ` + b.path("repo") + ` latest ` + b.path("out"))
	for _, want := range []string{
		"pv-scan: other file systems, left out: src/bind, src/bindself, src/file, src/tmp\n",
		"pv-scan: src/tmp: another file system begins here: stored as an empty directory\n",
		"pv-scan: src/file: something of another file system is mounted here: left out\n",
		"dereferenced\npv-scan: other file systems, left out: src/bind, src/bindself, src/file, src/tmp, src/to-other\n",
		"src/tmp/ src/to-other src/z/ src/z/z",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("not said: %q in\n%s", want, told)
		}
	}
	if got := b.ok("cd out/src && find . | sort | paste -s -d ' ' - && stat -c %a tmp"); got != ". ./bind ./bindself ./d ./d/a ./tmp ./tmp/deep ./tmp/deep/er ./tmp/deep/er/c ./to-other ./z ./z/z\n755" {
		t.Errorf("restored: %s", got)
	}
}

// TestOneFileSystemLinks: what lies on another file system is not in the backup,
// and links to it are named, whether they come before it or after.
func TestOneFileSystemLinks(t *testing.T) {
	b := newBench(t)
	b.need(true, "unshare", "mount")
	told := b.inside(`mkdir -p src/m
		ln -s m/f src/a; ln -s m/f src/z; ln -s m/none src/none; ln -s m/in/f src/in
		mount -t tmpfs tmpfs src/m; echo >src/m/f
		mkdir src/m/in; echo >src/m/in/f
		echo whole; pv-scan src >tree; echo one; pv-scan -x src >tree; echo two; pv-scan -x src src/m/in >tree`)
	for _, want := range []string{
		"whole\none\npv-scan: src/none: is a link to m/none (", // nobody looks whether it is there
		"pv-scan: src/z: is a link to m/f (", "pv-scan: src/a: is a link to m/f (", "pv-scan: src/in: is a link to m/in/f (",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("not said: %q in\n%s", want, told)
		}
	}
	_, two, _ := strings.Cut(told, "two\n")
	if strings.Contains(two, "src/in:") || !strings.Contains(two, "src/a:") {
		t.Errorf("with a source below the mount point: %s", two)
	}
}

func TestOneFileSystemBtrfs(t *testing.T) {
	b := newBench(t)
	b.need(true, "unshare", "mount", "jq", "mkfs.btrfs", "btrfs")
	got := b.inside(listed + `truncate -s 120M img; mkfs.btrfs -q img >/dev/null 2>&1; mkdir m; mount -o loop img m
		mkdir m/src; btrfs -q subvolume create m/src/sub; echo a >m/src/sub/a; echo b >m/src/b
		btrfs -q subvolume create m/src/sub/inner; echo c >m/src/sub/inner/c
		btrfs -q subvolume snapshot m/src/sub m/src/snap
		cd m; pv-scan -q -x src | listed; pv-scan -q -x src src/sub | listed; pv-scan -q src | listed`)
	want := `src/ src/b src/snap/ src/sub/
src/ src/b src/snap/ src/sub/ src/sub/a src/sub/inner/
src/ src/b src/snap/ src/snap/a src/snap/inner/ src/sub/ src/sub/a src/sub/inner/ src/sub/inner/c`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestOneFileSystemOverlay: the files of an overlay have other device numbers than
// its directories, and are taken all the same.
func TestOneFileSystemOverlay(t *testing.T) {
	b := newBench(t)
	b.need(true, "unshare", "mount", "jq")
	got := b.inside(listed + `mkdir t; mount -t tmpfs tmpfs t; cd t; mkdir one; mount -t tmpfs tmpfs one
		mkdir -p one/low/d up work src; echo a >one/low/a; echo b >one/low/d/b
		mount -t overlay -o lowerdir=one/low,upperdir=up,workdir=work overlay src; echo c >src/d/c
		pv-scan -q -x src | listed`)
	if got != "src/ src/a src/d/ src/d/b src/d/c" {
		t.Error(got)
	}
}

// TestOneFileSystemAutomount: nothing is mounted by a backup of one file system,
// neither by the scan nor by the reading of attributes.
func TestOneFileSystemAutomount(t *testing.T) {
	b := newBench(t)
	b.need(true)
	point := b.path("src/auto")
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	asked, daemon, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer asked.Close()
	// Those of our process group are taken for the daemon: nothing is mounted for
	// them. What is tested is in a group of its own.
	options := fmt.Sprintf("fd=%d,pgrp=%d,minproto=5,maxproto=5,direct", daemon.Fd(), syscall.Getpgrp())
	err = unix.Mount("systest", point, "autofs", 0, options)
	daemon.Close()
	if err == unix.ENODEV {
		if os.Getenv("PV_NO_SKIP") == "1" {
			t.Fatal("the kernel has no autofs")
		}
		t.Skip("the kernel has no autofs")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		asked.Close()
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	start := func(ctx context.Context, script string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		cmd.Dir, cmd.Env, cmd.Stderr = b.dir, b.env, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	packet := func(wait time.Duration) bool {
		if err := asked.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, _ := asked.Read(make([]byte, 1024))
		return n > 0
	}
	// A script that waits for a mount waits until it is killed.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, script := range []string{"pv-scan -q -x src >tree", "pv-scan -q -x --xattrs src >tree", "pv-chunk -k write.key <tree >content"} {
		done := make(chan error, 1)
		cmd := start(ctx, script)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", script, err)
			}
			if packet(time.Millisecond) {
				t.Fatalf("%s: wants it mounted", script)
			}
		case <-ctx.Done():
			t.Fatalf("%s: waits for a mount", script)
		}
	}
	if got := b.ok(`pv-json <content | grep -c '"path":"src/auto","type":"dir"'`); got != "1" {
		t.Errorf("%s entries", got)
	}
	// The proof that this would be seen: a backup of everything does mount it.
	cmd := start(ctx, "pv-scan -q src >tree")
	if !packet(30 * time.Second) {
		t.Error("a scan of everything asks for no mount")
	}
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a scan of everything did not wait for the mount")
	}
}
