package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// A tool is how one of the programs makes a first backup and restores it: shell
// scripts that are given
//
//	SRC    the directory to back up, an absolute path
//	REPO   where the repository is to be; it does not exist yet
//	DEST   the empty directory to restore to: SRC comes to be at DEST/SRC
//	STATE  a directory for keys and caches, new for every round
//
// Setup is not measured. Every restore ends with a sync of the file system, and
// every backup with its files synced, so that all are measured up to the disk.
type tool struct {
	name                   string
	needs                  []string
	version                string
	setup, backup, restore string
	only                   string // the one set that it can do; "" for all
}

var allTools = []tool{
	{
		name:    "preserve",
		needs:   []string{"pv-key", "pv-scan", "pv-chunk", "pv-seal", "pv-put", "pv-get", "pv-unpack"},
		version: "pv-put -version",
		setup: `
			pv-key new -o "$STATE/master"
			pv-key derive write -k "$STATE/master" -o "$STATE/write" --writer bench
			pv-key derive read -k "$STATE/master" -o "$STATE/read"`,
		backup: `
			pv-scan "$SRC" | pv-chunk -k "$STATE/write" | pv-seal -k "$STATE/write" | pv-put "$REPO" >"$STATE/id"`,
		restore: `
			id=$(cat "$STATE/id")
			pv-get "$REPO" "$id" | pv-unpack -k "$STATE/read" --snapshot "$id" "$DEST"
			sync -f "$DEST"`,
	},
	{
		name:    "restic",
		needs:   []string{"restic"},
		version: "restic version",
		setup: `
			export RESTIC_PASSWORD=bench RESTIC_CACHE_DIR="$STATE/cache"
			restic -q -r "$REPO" init`,
		backup: `
			export RESTIC_PASSWORD=bench RESTIC_CACHE_DIR="$STATE/cache"
			restic -q -r "$REPO" backup "$SRC"`,
		restore: `
			export RESTIC_PASSWORD=bench RESTIC_CACHE_DIR="$STATE/cache"
			restic -q -r "$REPO" restore latest --target "$DEST"
			sync -f "$DEST"`,
	},
	{
		name:    "borg",
		needs:   []string{"borg"},
		version: "borg --version",
		setup: `
			export BORG_PASSPHRASE=bench BORG_BASE_DIR="$STATE"
			borg init -e repokey "$REPO"`,
		backup: `
			export BORG_PASSPHRASE=bench BORG_BASE_DIR="$STATE"
			borg create --compression zstd,3 "$REPO::a" "$SRC"`,
		restore: `
			export BORG_PASSPHRASE=bench BORG_BASE_DIR="$STATE"
			cd "$DEST"
			borg extract "$REPO::a"
			sync -f .`,
	},
	{
		name:    "tar",
		needs:   []string{"tar", "zstd", "age", "age-keygen"},
		version: "tar --version | head -n 1; zstd -V; echo age $(age --version)",
		setup: `
			mkdir "$REPO"
			age-keygen -o "$STATE/key" && age-keygen -y "$STATE/key" >"$STATE/recipient"`,
		backup: `
			tar -C / -cf - "${SRC#/}" | zstd -q -3 -T0 -c | age -R "$STATE/recipient" >"$REPO/tar.zst.age"
			sync "$REPO/tar.zst.age" "$REPO"`,
		restore: `
			age -d -i "$STATE/key" "$REPO/tar.zst.age" | zstd -q -d -c | tar -C "$DEST" -xpf -
			sync -f "$DEST"`,
	},
	{
		// Nothing but encryption: what a single large file can take at the least.
		name:    "age",
		only:    "large",
		needs:   []string{"age", "age-keygen"},
		version: "age --version",
		setup: `
			mkdir -p "$REPO" "$DEST/$SRC"
			age-keygen -o "$STATE/key" && age-keygen -y "$STATE/key" >"$STATE/recipient"`,
		backup: `
			age -R "$STATE/recipient" "$SRC/large" >"$REPO/large.age"
			sync "$REPO/large.age" "$REPO"`,
		restore: `
			age -d -i "$STATE/key" "$REPO/large.age" | cat >"$DEST/$SRC/large"
			sync -f "$DEST"`,
	},
}

func findTool(name string) (tool, bool) {
	for _, t := range allTools {
		if t.name == name {
			return t, true
		}
	}
	return tool{}, false
}

// of returns the tools that can do a set.
func of(tools []tool, set string) []tool {
	return slices.DeleteFunc(slices.Clone(tools), func(t tool) bool { return t.only != "" && t.only != set })
}

// present returns those of the named tools that are installed, and a line for
// each other one.
func present(names []string) (found []tool, missing []string) {
	for _, name := range names {
		t, _ := findTool(name)
		var lacks []string
		for _, n := range t.needs {
			if _, err := exec.LookPath(n); err != nil {
				lacks = append(lacks, n)
			}
		}
		if lacks != nil {
			missing = append(missing, fmt.Sprintf("%s: not installed: %s", name, strings.Join(lacks, ", ")))
			continue
		}
		found = append(found, t)
	}
	return found, missing
}

// versions returns what t says of itself, in one line.
func (t tool) versions() string {
	out, err := exec.Command("sh", "-c", t.version).Output()
	if err != nil {
		return "tells no version"
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		lines = append(lines, strings.Trim(line, "* \n"))
	}
	return strings.Join(lines, "; ")
}
