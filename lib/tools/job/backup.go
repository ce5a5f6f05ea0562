package job

import (
	"os"
	"path/filepath"
	"strings"

	"preserve/lib/job"
	"preserve/lib/remote"
	"preserve/lib/tool"
)

const backupUsage = `usage: pv-backup [-r REPO]… [-k KEY] [--label NAME] [--tag TAG]…
                 [--exclude PATTERN]… [-x] [--dereference] [--rescan] PATH…

    pv-scan PATH… | pv-chunk -k KEY | pv-seal -k KEY | pv-put REPO

Backs up each PATH, with all that is below it, and prints the id of the new
snapshot. What has not changed since the last run of the same job is not read again.

  -r REPO       directory, or ssh://[user@]host[:port]/path (or PV_REPO); several
                get the same, read once
  -k KEY        write key or master key (or PV_KEY)
  --label NAME  the job that the snapshot belongs to
  --tag TAG     a word of your own for the snapshot; may be repeated
  -C DIR        begin relative paths from DIR: the job is the same wherever DIR is
  --host NAME   the host that the snapshot names, not this one (or PV_HOST)
  --exclude PATTERN, --exclude-from FILE, --include PATTERN, --exclude-caches,
  --exclude-if-present NAME, --exclude-larger-than SIZE, --iexclude PATTERN,
  --iinclude PATTERN, --iexclude-from FILE
                leave things out, as pv-scan -h says; all of it is optional:
                --exclude '*.o' --exclude /home/me/tmp --exclude-caches
  --files-from LIST, --from0
                back up the paths in a file, or on stdin if it is -
  -x, --one-file-system
                stay on the file system of each PATH
  --dereference store what symbolic links point to in their place
  --no-xattrs, --exclude-xattr PATTERN
                leave out extended attributes, all or those whose names match:
                security.selinux; access control lists are such, too
  --no-warn-links
                do not name links that lead out of the backup
  -v, -q        say more, say only errors and warnings

  --rescan      a second pass after the first, for what has changed meanwhile
  --skip-if-unchanged
                no new snapshot if nothing has changed
  --existing    make no repository: a REPO that is not there is not mounted
  --new-repository
                REPO is another repository than in the last run, on purpose
  --new-key     KEY is of another master key than in the last run, on purpose
  --cache DIR   remember this job in DIR (else below ~/.cache/preserve)
  --margin TIME, --settle TIME, --ignore-ctime, --ignore-inode
                how unchanged files are told, as pv-chunk -h says
  --no-group PATTERN
                never compress a file that matches together with others
  --compression WHAT, --checkpoint TIME
                as pv-seal -h says
`

func beginBackup(env *tool.Env, a *arguments) (*job.Run, error) {
	q := job.Request{}
	a.common()
	a.pass(&q.Scan, "exclude=", "include=", "exclude-from=", "iexclude=", "iinclude=", "iexclude-from=", "exclude-if-present=",
		"exclude-larger-than=", "x", "one-file-system", "dereference", "no-warn-links", "exclude-caches", "from0")
	a.pass(&q.Chunk, "margin=", "settle=", "ignore-ctime", "ignore-inode", "new-key", "no-group=", "no-xattrs", "exclude-xattr=")
	a.pass(&q.Seal, "tag=", "compression=", "checkpoint=")
	var lists []string
	var dir string
	host := os.Getenv("PV_HOST")
	a.fs.Func("files-from", "", func(s string) error { lists = append(lists, s); return nil })
	a.fs.StringVar(&dir, "C", "", "")
	a.fs.StringVar(&host, "host", host, "")
	a.fs.StringVar(&q.Label, "label", "", "")
	a.fs.StringVar(&q.Cache, "cache", "", "")
	a.fs.BoolVar(&q.Skip, "skip-if-unchanged", false, "")
	a.fs.BoolVar(&q.Rescan, "rescan", false, "")
	a.fs.BoolVar(&q.Existing, "existing", os.Getenv("PV_EXISTING") != "", "")
	a.fs.BoolVar(&q.NewRepo, "new-repository", false, "")
	words, err := a.parse(backupUsage)
	if err != nil {
		return nil, err
	}
	switch {
	case len(words) == 0 && len(lists) == 0:
		return nil, tool.Usagef("no path given")
	case len(a.repos) == 0:
		return nil, tool.Usagef("a repository is needed: -r REPO or PV_REPO")
	case a.key == "":
		return nil, tool.Usagef("a key is needed: -k KEY or PV_KEY")
	}
	for _, name := range a.repos {
		at, err := remote.Parse(name)
		if err != nil {
			return nil, err
		}
		q.Repos = append(q.Repos, at)
	}
	q.Key, q.Paths = a.key, words
	for _, o := range q.Seal {
		if strings.HasPrefix(o, "--checkpoint=") {
			q.Put = append(q.Put, o)
		}
	}
	if dir != "" {
		q.Scan = append(q.Scan, "-C="+dir)
	}
	if host != "" {
		q.Scan = append(q.Scan, "--host="+host)
	}
	for _, l := range lists {
		if l == "-" {
			q.Stdin = true
			continue
		}
		q.Scan = append(q.Scan, "--files-from="+l)
	}
	if q.Label != "" {
		q.Seal = append(q.Seal, "--label="+q.Label)
	}
	q.Sources, err = sources(dir, words, lists)
	if err != nil {
		return nil, err
	}
	return job.Begin(env, env.Talk(), q)
}

// sources is what a job is known by: where each source lies, or, below a -C DIR, which may be another
// one in each run, under which path it is stored.
func sources(dir string, paths, lists []string) ([]string, error) {
	var list []string
	for _, p := range paths {
		at := filepath.Clean(p)
		switch {
		case dir != "" && !filepath.IsAbs(at):
			at = "-C: " + strings.TrimPrefix(at, "/")
		case !filepath.IsAbs(at):
			abs, err := filepath.Abs(at)
			if err != nil {
				return nil, err
			}
			at = abs
		}
		list = append(list, at)
	}
	for _, l := range lists {
		if l != "-" {
			abs, err := filepath.Abs(l)
			if err != nil {
				return nil, err
			}
			l = abs
		}
		list = append(list, "--files-from "+l)
	}
	return list, nil
}
