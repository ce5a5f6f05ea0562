# Preserve. Only Go and make are needed to build, to test and for a first backup.

override SRC := $(value SRC)
export SRC
export CGO_ENABLED = 0
PREFIX = /usr/local
BIN = bin
TOOLS = $(notdir $(wildcard cmd/*))
SCRIPTS = $(notdir $(filter-out %/pv-first-backup,$(wildcard scripts/pv-*)))
PAGES = $(notdir $(wildcard docs/man/*.md))
VERSION = $(shell sed -n 's/^const Version = "\(.*\)"/\1/p' lib/tool/version.go)
# The commit and its date, for --version. Under sudo git may not tell; go would fail over that.
COMMIT = $(shell git describe --always --dirty --exclude '*' --abbrev=12 2>/dev/null)
STAMP = $(if $(COMMIT),commit $(COMMIT)$(shell git log -1 --format=', %cs' 2>/dev/null))
BUILD = go build -trimpath -buildvcs=false -ldflags "-X 'preserve/lib/tool.stamp=$(STAMP)'"
FUZZTIME = 10s
SHELLS = $(wildcard scripts/pv-* .ci/*) testdata/treedump test/randomness/dieharder

.PHONY: all test check flaky race fuzz bench system randomness dieharder fidelity backup install uninstall clean

all:
	$(BUILD) -o bin/ ./cmd/...

# A line for each package, the logs of what failed, and what was skipped and why.
test:
	.ci/test ./...

# What CI runs, and nothing else.
check:
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	go vet -tags system ./test/systest
	go tool -modfile=tools.mod staticcheck -tags system ./...
	.ci/shells $(SHELLS)
	.ci/test ./...

# Everything ten times, under load: two hours.
flaky:
	.ci/flaky ./...

# The race detector needs a C compiler.
race:
	CGO_ENABLED=1 .ci/test -race ./lib/...

# Each fuzz target for FUZZTIME, and every bit of a small repository flipped.
fuzz:
	.ci/fuzz $(FUZZTIME)
	go test ./test -run '^TestFlips' -count=1 -timeout 60m -v -flips.all

bench: all
	go run ./test/bench

# Real sshd, full disks, a large real tree; needs root for all of it.
system: all
	.ci/test -tags system -count=1 -timeout 25m ./test/systest

# Does what is sealed look like noise? 100 MB of it, and planted faults that must be found.
randomness: all
	go run ./test/randomness

# The same of 1 GiB by dieharder: a quarter of an hour, 3 GB below $TMPDIR. See docs/randomness.md.
dieharder: all
	dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	go run ./test/randomness -size 1100 -extract "$$dir/sealed" && \
	truncate -s 1073741824 "$$dir/sealed" && test/randomness/dieharder "$$dir/sealed"

# The table of docs/fidelity.md, with what restic, borg and tar give: root, 15 minutes.
fidelity: all
	go test -tags system -count=1 -timeout 40m ./test/systest -run TestFidelity -fidelity.others -fidelity.write

# make backup SRC=DIR: keys and a repository, if there are none, and a snapshot.
backup: all
	@scripts/pv-first-backup "$$SRC"

# Builds only what make has not built: so it needs no Go, and works under sudo.
install: $(TOOLS:%=$(BIN)/%)
	umask 022; install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/man/man1"
	install -m 755 $^ $(SCRIPTS:%=scripts/%) "$(DESTDIR)$(PREFIX)/bin"
	@set -e; for page in $(PAGES:.md=); do \
		awk -f docs/man/roff.awk -v name=$$page -v version=$(VERSION) docs/man/$$page.md | \
		install -m 644 /dev/stdin "$(DESTDIR)$(PREFIX)/share/man/man1/$$page.1"; \
	done

$(BIN)/%:
	$(BUILD) -o $@ ./cmd/$*

uninstall:
	for f in $(TOOLS) $(SCRIPTS); do rm -f "$(DESTDIR)$(PREFIX)/bin/$$f"; done
	for f in $(PAGES:.md=.1); do rm -f "$(DESTDIR)$(PREFIX)/share/man/man1/$$f"; done

clean:
	rm -rf bin
