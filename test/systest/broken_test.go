//go:build system

package systest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// number is the number that a script prints.
func (b *bench) number(script string) int64 {
	b.Helper()
	n, err := strconv.ParseInt(b.ok(script), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// broken is a pipeline of which something is killed with -9 when N bytes of the
// sealed stream have gone by.
const broken = `
first() { # stage NAME COMMAND…
	name=$1
	shift
	sh -c 'echo $$ >"$0"; exec "$@"' "pid.$name" "$@"
}
murder() {
	head -c "$N"
	for victim in $VICTIMS; do
		until [ -s "pid.$victim" ]; do sleep 0.01; done
		kill -9 "$(cat "pid.$victim")"
	done
	cat >/dev/null
}
rm -f pid.*
first scan pv-scan src | first chunk pv-chunk -k write.key | first seal pv-seal -k write.key | murder | first put $PUT
`

// A run that is broken off, at whichever point and however, is no loss: the next
// one stores and sends what was not whole, and little more.
func TestBrokenRunGoesOn(t *testing.T) {
	b := newBench(t)
	url := b.sshd("")
	port := url[strings.LastIndexByte(url, ':')+1:]
	const packs = `find %s/packs -type f -printf '%%s\n' | awk '{ n += $1 } END { printf "%%d\n", n }'`
	b.ok("mkdir src && for n in $(seq 400); do head -c 1000000 /dev/urandom >src/$n; done")
	b.ok("pv-scan src | pv-chunk -k write.key | pv-seal -k write.key | tee sealed | pv-put whole >id")
	stored, sent := b.number(fmt.Sprintf(packs, "whole")), b.number("wc -c <sealed")
	b.ok("rm -rf sealed whole")

	for _, c := range []struct {
		what, victims, put string
		lost               int64 // bytes that had come and may be lost
	}{
		// Two packs on their way to the disk and one of each kind open.
		{"pv-put", "put", "pv-put $REPO", 4 * (64 << 20)},
		{"the connection", "put", "$PV_SSH -p " + port + " root@127.0.0.1 pv-put $PWD/$REPO", 16 << 20},
		{"everything", "scan chunk seal put", "pv-put $REPO", 4 * (64 << 20)},
	} {
		for _, percent := range []int64{10, 50, 90} {
			at := sent * percent / 100
			vars := fmt.Sprintf("REPO=repo; N=%d; VICTIMS='%s'; PUT=\"%s\"\n", at, c.victims, c.put)
			if out, _, status := b.sh(vars + broken); status == 0 || out != "" {
				t.Fatalf("%s at %d %%: status %d, %s", c.what, percent, status, out)
			}
			// A pv-put over there hears of the end of its connection a moment later.
			b.ok(`n=0; while ! python3 -c 'import fcntl; fcntl.lockf(open("repo/lock", "r+"), fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null; do
				n=$((n + 1)); [ $n -lt 600 ]; sleep 0.1; done; [ -z "$(ls repo/snapshots)" ]`)
			kept := b.number(fmt.Sprintf(packs, "repo"))
			b.ok(`pv-get repo --ids >known && pv-scan src | pv-chunk -k write.key | pv-seal -k write.key --known known | tee sealed | pv-put repo >id`)
			both, again := b.number(fmt.Sprintf(packs, "repo")), b.number("wc -c <sealed")
			t.Logf("%s killed at %d %% of %d: kept %d, sent again %d; stored in both %d, in one run %d", c.what, percent, sent, kept, again, both, stored)
			if both > stored+1<<20 {
				t.Errorf("%s at %d %%: both runs stored %d bytes, one stores %d", c.what, percent, both, stored)
			}
			if most := sent - at + c.lost; again > most {
				t.Errorf("%s at %d %%: sent again %d of %d bytes, at most %d are due", c.what, percent, again, sent, most)
			}
			if left := b.ok("ls repo/tmp"); left != "" {
				t.Errorf("%s at %d %%: left behind: %s", c.what, percent, left)
			}
			b.ok("pv-verify -q -r repo -k read.key $(cat id) && rm -rf repo sealed known")
		}
	}
}

// A repository that has lost packs, any half of them, heals with the next run, or
// refuses it and names what is missing: then the run after it brings that. There
// is never a snapshot that does not restore.
func TestLostPacksHeal(t *testing.T) {
	b := newBench(t)
	b.ok(`mkdir src && for n in $(seq 700); do head -c $((n * 37)) /dev/urandom >src/$n; done; head -c 6000000 /dev/urandom >src/large
		run() { # run REPO CACHE BASE OPTION…: by hand, as pv-backup does it
			repo=$1 cache=$2 base=$3
			shift 3
			pv-scan src | pv-chunk -k write.key --cache "$cache" ${base:+--base "$base"} "$@" | pv-seal -k write.key --cache "$cache" "$@" | pv-put "$repo"
		}
		base=
		for day in 1 2 3 4 5; do
			echo $day >>src/$day; head -c 300000 /dev/urandom >src/new$day
			run repo cache "$base" >id && base=$(cat id) && cat id >>ids || exit
		done
		[ $(ls repo/packs/*/* | wc -l) -ge 10 ]`)
	run := `run() { repo=$1 cache=$2 base=$3; shift 3
		pv-scan src | pv-chunk -q -k write.key --cache "$cache" ${base:+--base "$base"} "$@" | pv-seal -q -k write.key --cache "$cache" "$@" | pv-put -q "$repo"; }
		`
	for half := range 4 {
		// Two halves by number, the data, the metadata; and these are what another
		// repository got of a copy that was broken off.
		pick := []string{"NR % 2 == 1", "NR % 2 == 0", "$1 > 200000", "$1 <= 200000"}[half]
		b.ok(`rm -rf part c2; cp -a repo part; cp -a cache c2
			find part/packs -type f -printf '%s %p\n' | sort -k 2 | awk '` + pick + ` { print $2 }' >gone && [ -s gone ] && xargs rm <gone`)
		rounds, done := 0, false
		b.ok("rm -f distrust; : >distrust; echo change " + strconv.Itoa(half) + " >>src/1")
		for rounds < 6 && !done {
			rounds++
			before := b.ok("ls part/snapshots")
			out, stderr, status := b.sh(run + "run part c2 $(cat id) --distrust distrust")
			switch {
			case status == 0 || status == 3: // 3: packs are gone, and pv-put says so
				done = true
				b.ok("pv-verify -q -r part -k read.key " + strings.TrimSpace(out))
				b.ok("rm -rf out; pv-restore -q -r part -k read.key " + strings.TrimSpace(out) + " out && diff -r src out/src")
			case status == 1 && strings.HasPrefix(out, "missing ") && b.ok("ls part/snapshots") == before:
				b.ok("cat >>distrust <<'END'\n" + out + "END")
			default:
				t.Fatalf("half %d, round %d: status %d\n%s%s", half, rounds, status, out, stderr)
			}
		}
		if !done {
			t.Fatalf("half %d: not healed in %d runs", half, rounds)
		}
		t.Logf("without packs %s: whole after %d runs", pick, rounds)
		// What else is not whole now is named, and what is restores.
		b.ok(`for i in $(cat ids); do pv-verify -q -r part -k read.key $i >/dev/null 2>said; status=$?
			[ $status -eq 0 ] || [ $status -eq 3 -o $status -eq 1 ] && { [ $status -eq 0 ] || [ -s said ]; } || exit; done`)
	}
}

// What lies before the last checkpoint of a broken run is not even read again, if
// there is a cache.
func TestBrokenRunWithCheckpoints(t *testing.T) {
	b := newBench(t)
	b.ok("mkdir src && for n in $(seq 4000); do head -c 30000 /dev/urandom >src/$n; done; sleep 1.2")
	size := b.number("cat src/* | wc -c")
	options := `sed 's/pv-chunk -k write.key/& --cache c --margin 0 --settle 0/; s/pv-seal -k write.key/& --cache c --checkpoint 0.1s/' <<'END'` + broken + "END\n"
	pipeline := b.ok(options)
	for _, percent := range []int64{50, 90} {
		at := size * percent / 100
		if out, _, status := b.sh(fmt.Sprintf("REPO=repo; N=%d; VICTIMS='scan chunk seal put'; PUT='pv-put --checkpoint 0 repo'\n", at) + pipeline); status == 0 || out != "" {
			t.Fatalf("%d %%: status %d, %s", percent, status, out)
		}
		// The cache has two checkpoints at most; the later one serves where the other ends.
		b.ok(`for i in $(ls c); do case $i in *.*|lock) ;; *) pv-get repo --has "$i" ;; esac; done | sed 's/^checkpoint //' | paste -s -d , >base && [ -s base ]`)
		read := b.number(`pv-scan src | pv-chunk -k write.key --cache c --margin 0 --base "$(cat base)" | wc -c`)
		t.Logf("killed at %d %% of %d bytes: %d bytes are read again", percent, size, read)
		// What was on its way, the page that was not complete, and a tenth of a second.
		if most := size - at + 48<<20; read > most {
			t.Errorf("%d %%: %d bytes are read again, at most %d are due", percent, read, most)
		}
		b.ok(`pv-scan src | pv-chunk -k write.key --cache c --margin 0 --base "$(cat base)" | pv-seal -k write.key --cache c | pv-put repo >id
			pv-restore -q -r repo -k read.key $(cat id) out && diff -r src out/src && rm -rf out repo c`)
	}
}
