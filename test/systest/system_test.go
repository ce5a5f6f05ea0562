//go:build system

package systest

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A bench is a test's folder and the environment of its commands.
type bench struct {
	*testing.T
	dir string
	env []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "bin/pv-scan")); err != nil {
		t.Fatalf("%v: run make first", err)
	}
	b := &bench{T: t, dir: t.TempDir()}
	b.env = append(os.Environ(), "PATH="+filepath.Join(root, "scripts")+":"+filepath.Join(root, "bin")+":"+os.Getenv("PATH"),
		"LC_ALL=C", "TMPDIR="+b.dir, "XDG_CACHE_HOME="+b.path(".cache"), "XDG_CONFIG_HOME="+b.path(".config"), "PV_CACHE=", "PV_KEY="+b.path("master.key"), "TREEDUMP="+filepath.Join(root, "testdata/treedump"))
	b.ok("pv-key new -q -o master.key; pv-key derive write -q -k master.key -o write.key --writer w; pv-key derive read -q -k master.key -o read.key")
	// Of a copy of the key nobody need be reminded here.
	b.ok("mkdir -p .config/preserve; pv-key show master.key | sed -n 's/^key id: //p' >.config/preserve/recovery-noted")
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// sh runs a shell script in the folder.
func (b *bench) sh(script string) (stdout, stderr string, status int) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	var o, e bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = b.dir, b.env, &o, &e
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		b.Fatalf("%s: %v %v\n%s", script, err, ctx.Err(), &e)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// ok runs a script that must succeed, and returns what it printed.
func (b *bench) ok(script string) string {
	b.Helper()
	start := time.Now()
	stdout, stderr, status := b.sh(script)
	if status != 0 {
		b.Fatalf("%s: status %d\n%s%s", script, status, stdout, stderr)
	}
	if took := time.Since(start); took > time.Second {
		b.Logf("%.1f s  %s", took.Seconds(), strings.TrimPrefix(script, judges))
	}
	return strings.TrimSpace(stdout)
}

// need skips a test that cannot run here, or fails it where none may be skipped.
func (b *bench) need(root bool, programs ...string) {
	b.Helper()
	why := ""
	if root && os.Getuid() != 0 {
		why = "this takes root"
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil && why == "" {
			_, serr := os.Stat("/usr/sbin/" + p)
			if serr != nil {
				why = p + " is not installed"
			}
		}
	}
	switch {
	case why == "":
	case os.Getenv("PV_NO_SKIP") == "1":
		b.Fatal(why)
	default:
		b.Skip(why)
	}
}

// sshd starts a server of our own on the loopback interface and makes PV_SSH
// talk to it. With a banner, its login script prints that before each command.
func (b *bench) sshd(banner string) (url string) {
	b.Helper()
	b.need(true, "sshd", "ssh", "ssh-keygen")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close() // sshd takes the port
	command := ""
	if banner != "" {
		command = fmt.Sprintf(`command="echo %s; eval \"$SSH_ORIGINAL_COMMAND\"" `, banner)
	}
	path := ""
	for _, v := range b.env {
		if p, ok := strings.CutPrefix(v, "PATH="); ok {
			path = p
		}
	}
	b.ok(fmt.Sprintf(`mkdir -p /run/sshd ssh
		ssh-keygen -q -t ed25519 -N '' -f ssh/host
		ssh-keygen -q -t ed25519 -N '' -f ssh/user
		printf '%%s%%s\n' '%s' "$(cat ssh/user.pub)" >ssh/authorized
		printf '[127.0.0.1]:%d %%s\n' "$(cut -d ' ' -f 1,2 ssh/host.pub)" >ssh/known
		chmod 600 ssh/authorized
		cat >ssh/config <<-END
			Port %d
			ListenAddress 127.0.0.1
			HostKey $PWD/ssh/host
			PidFile $PWD/ssh/pid
			AuthorizedKeysFile $PWD/ssh/authorized
			StrictModes no
			UsePAM no
			PasswordAuthentication no
			SetEnv PATH=%s
		END`, command, port, port, path))
	server := exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", b.path("ssh/config"))
	log, err := os.Create(b.path("ssh/log"))
	if err != nil {
		b.Fatal(err)
	}
	server.Stderr = log
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		_ = log.Close()
	})
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(b.path("ssh/log"))
			b.Fatalf("sshd: %v\n%s", err, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.env = append(b.env, "PV_SSH=ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -o UserKnownHostsFile="+b.path("ssh/known")+" -i "+b.path("ssh/user"))
	return fmt.Sprintf("ssh://root@127.0.0.1:%d", port)
}

// Two judges that we did not write the tools of: every byte of a canonical tar,
// and what find, stat, sha256sum, getfattr and lsattr say.
const judges = `
judge() {
	tar -C "$1" --sort=name --format=posix --pax-option='exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime' \
		--numeric-owner --xattrs --xattrs-include='*' --acls -cf - . 2>/dev/null | sha256sum
	"$TREEDUMP" "$1"
}
`

// compare lets both judges look at trees and at what was restored of them: that
// lies below out, under the same names.
func (b *bench) compare(out string, trees ...string) {
	b.Helper()
	b.need(false, "getfattr", "lsattr")
	var want, got strings.Builder
	for _, t := range trees {
		fmt.Fprintf(&want, "judge %s && ", quote(t))
		fmt.Fprintf(&got, "judge %s && ", quote(out+"/"+t))
	}
	b.ok(judges + fmt.Sprintf(`{ %s true; } >want.judge & { %s true; } >got.judge; wait
		test $(wc -l <want.judge) -gt 100 && diff want.judge got.judge >diff.judge || { head -n 20 diff.judge; exit 1; }`, &want, &got))
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// roots are trees of others, with at least 60,000 files and 2 GB if the machine
// has as much.
func roots(t *testing.T) (paths []string) {
	t.Helper()
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	candidates := []string{strings.TrimSpace(string(goroot)), "/usr/include"}
	for _, dir := range []string{"/usr/lib", "/usr/share", "/usr", "/opt"} {
		below, _ := filepath.Glob(dir + "/*")
		candidates = append(candidates, below...)
	}
	files, size := 0, int64(0)
	for _, p := range candidates {
		st, err := os.Lstat(p)
		taken := slices.ContainsFunc(paths, func(q string) bool { return strings.HasPrefix(p+"/", q+"/") || strings.HasPrefix(q+"/", p+"/") })
		if err != nil || !st.IsDir() || taken || files >= 60_000 && size >= 2e9 {
			continue
		}
		paths = append(paths, p)
		err = filepath.WalkDir(p, func(_ string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			files++
			if st, err := d.Info(); err == nil && st.Mode().IsRegular() {
				size += st.Size()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d files, %d bytes in %v", files, size, paths)
	if files < 60_000 || size < 2e9 {
		t.Log("this machine has no larger tree")
	}
	return paths
}

// odd makes what large trees of others do not have.
const odd = `
mkdir -p odd/dir odd/acl && cd odd
mkfifo -m 620 fifo
mknod char c 1 3 && mknod block b 7 300
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
truncate -s 20M hole && printf x | dd of=hole bs=1 seek=9000000 conv=notrunc status=none
truncate -s 3M all-hole
head -c 5000000 /dev/urandom >a && ln a dir/b && ln a c
# One judge sees the order in which attributes were set; a restore sets them by name,
# and the access list last.
setfacl -d -m g:4321:rwx acl && touch acl/inherits
setfattr -n user.empty a && setfattr -n user.text -v text a && setfattr -n trusted.t -v 0xff00 dir && setfattr -h -n trusted.l -v l hole
setfacl -m u:1234:rw- a
cp /bin/true capable && setcap cap_net_raw+ep capable 2>/dev/null || setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 capable
cp /bin/true setuid && chown 1:2 setuid && chmod 6755 setuid
ln -s "$(printf '\377 \n')" "$(printf 'l\ni\001nk\376')"
touch -- -r ' ' '*' "$(printf '%0255d' 0)"
touch -d @-100000000.000000001 old && touch -d @4000000000.999999999 new
chattr +d a 2>/dev/null; chattr +A old 2>/dev/null
chmod 1777 dir && touch -d @5.000000005 dir .
true
`

func TestBigTree(t *testing.T) {
	b := newBench(t)
	b.need(true, "getfattr", "setfattr", "setfacl", "lsattr", "python3")
	b.ok(odd)
	paths := append(roots(t), b.path("odd"))
	var words []string
	for _, p := range paths {
		words = append(words, quote(p))
	}
	b.env = append(b.env, "PATHS="+strings.Join(words, " "))
	url := b.sshd("")

	// Here.
	b.ok(`eval "pv-backup -r repo -k write.key $PATHS"`)
	b.ok(`pv-restore -r repo -k read.key latest out`)
	b.compare("out", paths...)
	b.ok("rm -rf out")

	// Through ssh.
	b.ok(`eval "pv-backup -r ` + url + b.path("far") + ` -k write.key $PATHS"`)
	b.ok(`pv-restore -r ` + url + b.path("far") + ` -k read.key latest out`)
	b.compare("out", paths...)
}

// An ssh that is killed in the middle of a stream: over there it looks like a
// clean end of file.
const brokenSSH = `#!/bin/sh
rm -f "$TMPDIR/fifo" && mkfifo "$TMPDIR/fifo"
case $* in
*--has*) exec $REAL_SSH "$@" ;;
*pv-put*)
	$REAL_SSH "$@" <"$TMPDIR/fifo" &
	ssh=$!
	{ head -c 20000000; kill -9 $ssh; } >"$TMPDIR/fifo"
	cat >/dev/null
	;;
*)
	$REAL_SSH "$@" >"$TMPDIR/fifo" </dev/null &
	ssh=$!
	{ head -c 20000000; kill -9 $ssh; } <"$TMPDIR/fifo"
	;;
esac
wait $ssh
`

func TestSSHBreaks(t *testing.T) {
	b := newBench(t)
	repo := b.sshd("") + b.path("repo")
	for _, v := range b.env {
		if real, ok := strings.CutPrefix(v, "PV_SSH="); ok {
			b.env = append(b.env, "REAL_SSH="+real)
		}
	}
	if err := os.WriteFile(b.path("broken"), []byte(brokenSSH), 0o755); err != nil {
		t.Fatal(err)
	}
	b.ok("mkdir src && head -c 60000000 /dev/urandom >src/noise && pv-backup -r " + repo + " src >id")
	before := b.ok("ls repo/snapshots")
	b.ok("head -c 60000000 /dev/urandom >src/noise")

	_, stderr, status := b.sh("PV_SSH=$PWD/broken pv-backup -r " + repo + " src")
	if status != 1 || stderr != "pv-put: repository "+repo+": pv-put there, or the way there, was ended by signal 9\n" {
		t.Errorf("backup: status %d\n%s", status, stderr)
	}
	// The next run needs no help.
	b.ok("pv-backup -r " + repo + " src")
	if got := b.ok("ls repo/snapshots | wc -l"); got != "2" {
		t.Errorf("%s snapshots, besides %s", got, before)
	}

	_, stderr, status = b.sh("PV_SSH=$PWD/broken pv-restore -r " + repo + " $(cat id) out; status=$?; ls -R out >&2; exit $status")
	if status != 1 || !strings.Contains(stderr, "input ended without its end record") || strings.Contains(stderr, "noise") {
		t.Errorf("restore: status %d\n%s", status, stderr)
	}
	b.ok("rm -rf out; pv-restore -r " + repo + " latest out && cmp src/noise out/src/noise")
}

func TestSSHBanner(t *testing.T) {
	b := newBench(t)
	b.ok("mkdir src && echo x >src/x && pv-backup -r repo src >id")
	repo := b.sshd("Welcome to nas") + b.path("repo")
	_, stderr, status := b.sh("pv-restore -r " + repo + " $(cat id) out")
	if status != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, `it begins with the text "Welcome to nas"`) {
		t.Errorf("status %d\n%s", status, stderr)
	}
	// A banner in front of an id does no harm.
	out, stderr, status := b.sh("pv-backup -r " + repo + " src")
	if status != 0 || len(out) != 65 || !strings.Contains(stderr, "Welcome to nas\n") {
		t.Errorf("status %d\n%s%s", status, out, stderr)
	}
}

func TestNoSuchToolOverThere(t *testing.T) {
	b := newBench(t)
	repo := b.sshd("")
	b.ok("mkdir src")
	_, stderr, status := b.sh("sed -i '/SetEnv/d' ssh/config; kill -HUP $(cat ssh/pid); sleep 0.5; pv-backup -r " + repo + b.path("repo") + " src")
	if status != 1 || !strings.Contains(stderr, "pv-get: command not found") || !strings.Contains(stderr, "pv-get must be on the PATH") {
		t.Errorf("status %d\n%s", status, stderr)
	}
}

// Stages are killed at random moments, all into one repository, which stays well.
func TestKilledAtRandom(t *testing.T) {
	b := newBench(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PV_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PV_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	b.ok("mkdir src && head -c 50000000 /dev/urandom >src/noise && cp -a $(go env GOROOT)/src/cmd src/")
	killed := 0
	for n := range 16 {
		b.ok(fmt.Sprintf("head -c 20000000 /dev/urandom >src/noise%d; rm -f src/noise%d", n, n-2))
		before := b.ok("ls repo/snapshots 2>/dev/null || true")
		victim := []string{"pv-scan", "pv-chunk", "pv-seal", "pv-put"}[r.IntN(4)]
		wait := time.Duration(r.IntN(1500)) * time.Millisecond
		_, stderr, status := b.sh(fmt.Sprintf(`pv-backup -r repo -k write.key src >id & script=$!
			sleep %f
			pkill -9 -x %s
			wait $script`, wait.Seconds(), victim))
		after := b.ok("ls repo/snapshots 2>/dev/null || true")
		switch {
		case status == 0: // it was done, or the victim was
		case status != 1:
			t.Errorf("%s after %v: status %d\n%s", victim, wait, status, stderr)
		case victim != "pv-put" && before != after:
			t.Errorf("%s after %v: a snapshot of a failed run\n%s", victim, wait, stderr)
		case stderr == "":
			t.Errorf("%s after %v: not a word", victim, wait)
		default:
			killed++
		}
	}
	t.Logf("%d of 16 were hit", killed)
	b.ok("pv-backup -r repo -k write.key src")
	b.ok(`pv-get repo --snapshots | pv-open --snapshots | sed 's/.*"id":"\([0-9a-f]*\)".*/\1/' | while read -r id; do pv-verify -r repo -k read.key "$id" || exit 1; done`)
	b.ok("pv-restore -r repo -k read.key latest out")
	b.compare("out", "src")
	if left := b.ok("ls -d preserve.* 2>/dev/null || true"); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func TestFullDisk(t *testing.T) {
	b := newBench(t)
	b.need(true, "mkfs.ext4", "mount")
	b.ok("truncate -s 64M image && mkfs.ext4 -q -F -b 4096 image && mkdir disk && mount -o loop image disk")
	t.Cleanup(func() { b.ok("umount disk") })
	b.ok("mkdir small large && echo x >small/x && head -c 80000000 /dev/urandom >large/noise")
	b.ok("pv-backup -r disk/repo small >id")
	_, stderr, status := b.sh("pv-backup -r disk/repo large")
	if status != 1 || !strings.Contains(stderr, "pv-put: ") || !strings.Contains(stderr, "full") {
		t.Errorf("status %d\n%s", status, stderr)
	}
	if n := b.ok("ls disk/repo/snapshots | wc -l"); n != "1" {
		t.Errorf("%s snapshots", n)
	}
	b.ok("pv-verify -r disk/repo $(cat id)")
	b.ok("pv-restore -r disk/repo latest out && cmp small/x out/small/x")
}
