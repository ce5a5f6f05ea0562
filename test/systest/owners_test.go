//go:build system

package systest

import (
	"strings"
	"testing"
)

// On a machine whose users have other numbers, owners and access control lists
// come back by name.
func TestOwnersOnAnotherMachine(t *testing.T) {
	b := newBench(t)
	b.need(true, "unshare", "mount", "setfacl", "getfacl")
	b.ok(`mkdir there here src src/dir
	echo 'root:x:0:0::/:/bin/sh
alice:x:1500:1500::/:/bin/sh
bob:x:1501:1501::/:/bin/sh
carol:x:1502:1500::/:/bin/sh' >there/passwd
	echo 'root:x:0:
users:x:1500:
staff:x:1600:' >there/group
	echo 'root:x:0:0::/:/bin/sh
alice:x:2500:2500::/:/bin/sh
carol:x:1500:2500::/:/bin/sh' >here/passwd
	echo 'root:x:0:
staff:x:2600:
users:x:1600:' >here/group
	echo 'set -e
	mount --bind "$1/passwd" /etc/passwd
	mount --bind "$1/group" /etc/group
	shift
	exec "$@"' >on
	for f in alice bob carol dir/listed; do echo x >src/$f; done
	chown 1500:1600 src/alice; chown 1501:1500 src/bob; chown 1502:1600 src/carol; ln src/alice src/dir/again
	chmod 4755 src/alice
	setfacl -m u:1500:r,u:1502:rw,g:1600:rx src/dir/listed
	setfacl -d -m u:1502:rwx,g:1500:r src/dir`)
	on := func(where, command string) string { return b.ok("unshare --mount sh on " + where + " " + command) }
	on("there", "pv-backup -r repo -k write.key src")
	if got := on("here", "pv-list -r repo -k read.key latest bob"); !strings.Contains(got, " bob ") {
		t.Errorf("list: %s", got)
	}
	_, said, status := b.sh("unshare --mount sh on here pv-restore -r repo -k read.key latest out")
	if status != 0 || said != "pv-unpack: no account here has the name of 1 user of the snapshot: what is theirs keeps the number (-v names them)\n" {
		t.Errorf("status %d\n%s", status, said)
	}
	for file, want := range map[string]string{"alice": "2500 2600 4755", "bob": "1501 1600 644", "carol": "1500 2600 644", "dir/again": "2500 2600 4755"} {
		if got := b.ok("stat -c '%u %g %a' out/src/" + file); got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
	acls := b.ok("getfacl -cn out/src/dir/listed out/src/dir")
	for _, line := range []string{"user:2500:r--", "user:1500:rw-", "group:2600:r-x", "default:user:1500:rwx", "default:group:1600:r--"} {
		if !strings.Contains("\n"+acls+"\n", "\n"+line+"\n") {
			t.Errorf("%s is not there:\n%s", line, acls)
		}
	}
	on("here", "pv-restore -r repo -k read.key --numeric-ids latest numbers")
	look := ` && find . -exec stat -c '%n %u %g %a %Y' {} + | sort && getfacl -nR . 2>&1`
	if want, got := b.ok("cd src"+look), b.ok("cd numbers/src"+look); got != want || !strings.Contains(want, "user:1502:rw-") {
		t.Errorf("with numbers:\n%s\nwant\n%s", got, want)
	}
}
