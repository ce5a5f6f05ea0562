//go:build system

package systest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newChecker is a bench whose $CHECK is testdata/checker, a reader in another
// language that was written from the documents.
func newChecker(t *testing.T) *bench {
	b := newBench(t)
	b.need(true, "rsync", "getfattr", "lsattr")
	if out, err := exec.Command("/usr/bin/python3", "-c", "import argon2, cryptography, zstandard").CombinedOutput(); err != nil {
		why := "the modules of testdata/checker/check.py are not installed: " + string(out)
		if os.Getenv("PV_NO_SKIP") == "1" {
			b.Fatal(why)
		}
		b.Skip(why)
	}
	check, err := filepath.Abs("../../testdata/checker/check.py")
	if err != nil {
		t.Fatal(err)
	}
	b.env = append(b.env, "CHECK=/usr/bin/python3 "+check)
	return b
}

func TestCheckerVectors(t *testing.T) {
	b := newChecker(t)
	vectors, err := filepath.Abs("../../testdata/vectors")
	if err != nil {
		t.Fatal(err)
	}
	out := b.ok("$CHECK --vectors " + vectors)
	for _, name := range []string{"crypto/keys.txt", "crypto/paper.txt", "repository/segments.txt", "snapshots/trees.txt", "streams/bad.txt"} {
		if !strings.Contains(out, name+": ") {
			t.Errorf("%s was not checked:\n%s", name, out)
		}
	}
	// A vector that says otherwise has to be found.
	_, stderr, status := b.sh(`cp -r ` + vectors + ` vectors && sed -i 's/^plain = 68656c6c6f$/plain = 68656c6c70/' vectors/crypto/blobs.txt &&
		$CHECK --vectors vectors`)
	if status != 1 || !strings.Contains(stderr, `"data, suite 1"`) && !strings.Contains(stderr, "'data, suite 1'") {
		t.Errorf("a changed vector: status %d\n%s", status, stderr)
	}
}

// TestCheckerRestores: what the tools wrote is verified and restored by a program
// that shares nothing with them, and a third kind of programs compares.
func TestCheckerRestores(t *testing.T) {
	b := newChecker(t)
	b.ok(`mkdir -p src/many src/deep/a/b/c && cd src
		/usr/bin/python3 -c '
import os
for i in range(1500): open(f"many/{i:04d}", "w").write(f"file {i}\n" * (i % 50))
f = os.open("pieces", os.O_CREAT | os.O_RDWR, 0o640)
for i in range(2100): os.pwrite(f, bytes([97 + i % 7]) * 4096, i * 8192)
os.ftruncate(f, 2100 * 8192 + 28077)
open(b"\xff\n\xfe", "w").write("odd")'
		head -c 3000000 /dev/urandom >large
		yes 'regular' | head -c 2000000 >text
		truncate -s 30M hole && printf x | dd of=hole bs=1 seek=20000000 conv=notrunc status=none
		: >empty; echo hello >deep/a/first; ln deep/a/first deep/second; ln deep/a/first zlast
		ln -s ../nowhere deep/link; mkfifo deep/fifo; mknod deep/null c 1 3
		setfattr -n user.one -v 'a value' text; setfattr -n user.two -v 0x00ff deep/a
		chmod 4755 empty; chmod 1750 deep/a/b; chown 1234:5678 text; chown -h 77:88 deep/link
		touch -d '1965-02-03 04:05:06.789' large; touch -d '2100-01-01 00:00:00.000000001' deep/a`)
	id := b.ok(`set -- $(pv-scan -C src . | pv-chunk -k write.key | pv-seal -k write.key --label checked | pv-put repo); echo $1`)
	// A second snapshot that rests on the blobs of the first.
	second := b.ok(`echo more >>src/text; pv-scan -C src . | pv-chunk -k write.key | pv-seal -k master.key | pv-put repo`)

	compare := func(dir string) {
		t.Helper()
		if out := b.ok(`rsync -aHAXni --checksum --delete --numeric-ids --modify-window=-1 src/ ` + dir + `/
			rsync -aHAXni --checksum --delete --numeric-ids --modify-window=-1 ` + dir + `/ src/
			diff -r --no-dereference src ` + dir + ` 2>&1 | grep -v 'is a .* while file' | sed 's/^/diff: /'
			"$TREEDUMP" src >src.dump; "$TREEDUMP" ` + dir + ` >` + dir + `.dump; diff src.dump ` + dir + `.dump`); out != "" {
			t.Errorf("%s differs:\n%s", dir, out)
		}
	}
	said := b.ok(`$CHECK repo read.key ` + second + ` by-read`)
	if !strings.Contains(said, "written by master") {
		t.Errorf("it says nothing of who wrote it: %s", said)
	}
	compare("by-read")

	b.ok(`printf 'eight words\n' >phrase; pv-key wrap -q -k master.key --time 1ms --memory 1 --passphrase-fd 3 3<phrase >wrapped
		$CHECK --passphrase phrase repo wrapped ` + second + ` by-wrapped && diff -r --no-dereference by-read/deep/a by-wrapped/deep/a
		pv-key paper -k master.key | sed -n '/PV1/,/^$/p' >paper
		$CHECK repo paper ` + id + ` by-paper && cmp by-paper/large src/large && ! cmp -s by-paper/text src/text`)

	for what, script := range map[string]string{
		"another passphrase":       `echo other >other; $CHECK --passphrase other repo wrapped ` + id + ` no`,
		"a list key":               `pv-key derive list -q -k master.key -o list.key; $CHECK repo list.key ` + id + ` no`,
		"a key of others":          `pv-key new -q -o foreign.key; $CHECK repo foreign.key ` + id + ` no`,
		"a snapshot that is none":  `$CHECK repo read.key ` + strings.Repeat("0", 64) + ` no`,
		"a snapshot by that name":  `cp -r repo renamed; mv renamed/snapshots/` + id + ` renamed/snapshots/` + second + `; $CHECK renamed read.key ` + second + ` no`,
		"a pack of another length": `cp -r repo longer; for p in longer/packs/*/*; do echo >>$p; done; $CHECK longer read.key ` + id + ` no`,
	} {
		if _, stderr, status := b.sh(script); status != 1 || strings.Contains(stderr, "Traceback") {
			t.Errorf("%s: status %d\n%s", what, status, stderr)
		}
		b.ok("rm -rf no")
	}
}

// The repository of docs/format/example.md is whole, and what the page says is in it.
func TestCheckerRestoresTheExample(t *testing.T) {
	b := newChecker(t)
	top, err := filepath.Abs("../../testdata")
	if err != nil {
		t.Fatal(err)
	}
	out := b.ok(`$CHECK ` + top + `/example/repo ` + top + `/released/v1/keys/master.key $(ls ` + top + `/example/repo/snapshots) out &&
		cat out/eve/b && readlink out/eve/c`)
	if want := "2 packs, 5 records\n4 entries, 6 bytes, written by master\nhello\na"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
}

func TestCheckerRefusesFlippedBits(t *testing.T) {
	b := newChecker(t)
	id := b.ok(`mkdir src; for i in $(seq 400); do echo $i >src/$i; done
		pv-scan -C src . | pv-chunk -k write.key | pv-seal -k write.key | pv-put repo`)
	out := b.ok(`$CHECK --flips 40 repo read.key ` + id)
	for _, class := range []string{"config", "segment", "pack", "session", "sealed blob", "references", "id", "signature, cert", "plaintext"} {
		if !strings.Contains(out, class) {
			t.Errorf("no bit of a %s was flipped:\n%s", class, out)
		}
	}
}
