package job

import (
	"slices"

	"preserve/lib/job"
	"preserve/lib/remote"
	"preserve/lib/tool"
)

const restoreUsage = `usage: pv-restore [-r REPO] [-k KEY] [OPTION…] SNAPSHOT DIR [PATTERN…]

    pv-get REPO ID | pv-unpack -k KEY --snapshot ID DIR
    pv-unpack -k KEY --from REPO --snapshot ID DIR PATTERN…

Restores SNAPSHOT into DIR, which must not exist or be empty unless --overwrite is
given. With PATTERNs, only what one of them matches, and all that is below it, with
the directories above: /home/me, notes.txt, "*.jpg", "src/**/test", as in .gitignore
files. Options are those of pv-unpack; pv-unpack -h says more about them.

  SNAPSHOT  an id, the beginning of one, a label, or latest
  -r REPO   directory, or ssh://[user@]host[:port]/path (or PV_REPO)
  -k KEY    read key or master key (or PV_KEY)
  -v, -q    say more, say only errors and warnings

  --exclude PATTERN     leave out what it matches, and all below (may be repeated)
  --literal             PATTERNs are paths: just these, though they hold *, ? or [
  --files-from LIST, --from0
                        also the paths in LIST, a line each, or NUL-separated; - is stdin
  --strip-components N  take N names off the front of each path
  --numeric-ids         owners keep their numbers; else they get the ids that their
                        names have here
  --map-user A:B, --map-group A:B
                        what is A's in the snapshot is to be B's (may be repeated)
  --no-xattrs, --exclude-xattr PATTERN
                        leave extended attributes as they are, all or those
                        whose names match; access control lists are such, too
  --dereference         copies of what symbolic links lead to, in their place
  --hard-dereference    each further name becomes a file of its own
  --overwrite never|changed|always
                        make only what is missing in DIR; replace also what differs
                        in size or time (goes on with an interrupted restore); all
  --in-place            write into large files themselves: interrupted, they are spoilt
  --delete              delete what is not in the snapshot from its directories; not what
                        the backup left out or could not read
  --delete-excluded     delete also what the backup left out on request
  --keep-directory-symlink
                        follow links to directories where the snapshot has a directory
  --dry-run             write nothing, print what would be done
  --revoked FILE, --allow-revoked
                        refuse, or accept, what revoked writers made
`

func beginRestore(env *tool.Env, a *arguments) (*job.Run, error) {
	q := job.Reading{Verb: "restore"}
	a.common()
	a.pass(&q.Trust, trusting...)
	a.pass(&q.Options, restoring...)
	words, err := a.parse(restoreUsage)
	if err != nil {
		return nil, err
	}
	if len(words) < 2 {
		return nil, tool.Usagef("a snapshot and a directory are needed")
	}
	if q.Snapshot, q.Words = words[0], words[1:]; q.Snapshot == "" {
		return nil, errEmpty
	}
	// A part is asked for, and no more comes than it needs; so is what is perhaps there.
	q.Part = len(words) > 2 || a.given["exclude"] || a.given["strip-components"] || a.given["dereference"] ||
		a.given["hard-dereference"] || a.given["dry-run"] ||
		has(q.Options, "--overwrite=changed", "--overwrite=never")
	return a.read(env, q)
}

// restoring is the options of a restore.
var restoring = []string{"exclude=", "files-from=", "from0", "literal", "strip-components=", "map-user=", "map-group=", "overwrite=", "numeric-ids", "dereference", "hard-dereference",
	"in-place", "delete", "delete-excluded", "keep-directory-symlink", "dry-run", "no-xattrs", "exclude-xattr="}

// errEmpty is a snapshot without a name: as of a variable of a script that is not set.
var errEmpty = tool.Usagef("the snapshot is empty: give an id, the beginning of one, a label or latest")

// read begins a run that reads, with the repository and key of the command line.
func (a *arguments) read(env *tool.Env, q job.Reading) (*job.Run, error) {
	name, err := a.one()
	if err != nil {
		return nil, err
	}
	if q.Repo, err = remote.Parse(name); err != nil {
		return nil, err
	}
	q.Key = a.key
	return job.Read(env, env.Talk(), q)
}

const listUsage = `usage: pv-list [-r REPO] [-k KEY] [--json | -0] [--literal] [--exclude PATTERN]…
               [--revoked FILE] [--allow-revoked] [SNAPSHOT [PATTERN…]]

    pv-get REPO --snapshots | pv-open -k KEY --snapshots -l
    pv-get REPO ID --meta | pv-open -k KEY --snapshot ID --meta | pv-ls -l
    pv-open -k KEY --from REPO --snapshot ID --meta --no-parents PATTERN… | pv-ls -l

Lists the snapshots, or what is in SNAPSHOT; with PATTERNs, only what one of them
matches, and all that is below it: /home/me, notes.txt, "*.jpg", "src/**/test", as
in .gitignore files.

  SNAPSHOT  an id, the beginning of one, a label, or latest
  -r REPO   directory, or ssh://[user@]host[:port]/path (or PV_REPO)
  -k KEY    list, read or master key (or PV_KEY); with a write key the list of
            snapshots shows ids and times only
  --literal PATTERNs are paths: just these, though they hold *, ? or [
  --files-from LIST, --from0
            also the paths in LIST, a line each, or NUL-separated; - is stdin
  --exclude PATTERN
            leave out what it matches, and all below (may be repeated)
  --json    a line of JSON for each snapshot, or each file of SNAPSHOT
  -0        only the paths of SNAPSHOT, each with a NUL after it
  --revoked FILE, --allow-revoked
            mark and refuse, or accept, what revoked writers made
  -v, -q    say more, say only errors and warnings
`

func beginList(env *tool.Env, a *arguments) (*job.Run, error) {
	q := job.Reading{Verb: "list", Meta: true}
	a.common()
	a.pass(&q.Trust, trusting...)
	a.pass(&q.Options, listing...)
	var json, nul bool
	a.fs.BoolVar(&json, "json", false, "")
	a.fs.BoolVar(&nul, "0", false, "")
	words, err := a.parse(listUsage)
	if err != nil {
		return nil, err
	}
	how := "-l"
	switch {
	case json && nul:
		return nil, tool.Usagef("--json and -0 exclude each other")
	case nul && len(words) == 0:
		return nil, tool.Usagef("-0 needs a snapshot")
	case a.given["exclude"] && len(words) == 0:
		return nil, tool.Usagef("--exclude needs a snapshot")
	case a.given["files-from"] && len(words) == 0:
		return nil, tool.Usagef("--files-from needs a snapshot")
	case nul:
		how = "-0"
	case json:
		how = "--json"
	}
	if len(words) == 0 {
		if !json { // as JSON is what pv-open prints anyway
			q.Options = append(q.Options, "-l")
		}
		return a.read(env, q)
	}
	if q.Snapshot, q.Words = words[0], words[1:]; q.Snapshot == "" {
		return nil, errEmpty
	}
	q.Part = len(words) > 1 || len(q.Options) > 0
	q.Options = append(q.Options, "--meta", "--no-parents")
	q.Show = []string{how}
	return a.read(env, q)
}

// listing is the options of a list.
var listing = []string{"exclude=", "files-from=", "from0", "literal"}

const verifyUsage = `usage: pv-verify [-r REPO] [-k KEY] [--bad-ids] [--revoked FILE] [--allow-revoked]
                 SNAPSHOT… | --all

    pv-get REPO ID | pv-open -k KEY --snapshot ID --check [--bad-ids]
    pv-open -k KEY --from REPO --check --snapshot ID --snapshot ID…

Opens and checks everything in SNAPSHOT, as a restore would, and writes nothing.
Data that several snapshots share is read once.

  SNAPSHOT  an id, the beginning of one, a label, or latest
  --all     all snapshots of the repository
  -r REPO   directory, or ssh://[user@]host[:port]/path (or PV_REPO)
  -k KEY    read key or master key (or PV_KEY)
  --bad-ids print the ids of blobs that are missing or damaged, for pv-get --blobs -
            of another repository
  --revoked FILE, --allow-revoked
            refuse, or accept, what revoked writers made
  -v, -q    say more, say only errors and warnings
`

func beginVerify(env *tool.Env, a *arguments) (*job.Run, error) {
	q := job.Reading{Verb: "verify", Options: []string{"--check"}}
	a.common()
	a.pass(&q.Trust, trusting...)
	a.pass(&q.Options, "bad-ids")
	var all bool
	a.fs.BoolVar(&all, "all", false, "")
	words, err := a.parse(verifyUsage)
	if err != nil {
		return nil, err
	}
	switch {
	case all && len(words) > 0:
		return nil, tool.Usagef("--all and a snapshot exclude each other")
	case !all && len(words) == 0:
		return nil, tool.Usagef("a snapshot is needed, or --all")
	case slices.Contains(words, ""):
		return nil, errEmpty
	case len(words) == 1:
		q.Snapshot = words[0]
		return a.read(env, q)
	}
	name, err := a.one()
	if err != nil {
		return nil, err
	}
	v := job.VerifyRequest{Key: a.key, Trust: q.Trust, Snapshots: words, Options: q.Options, Allow: has(q.Trust, "--allow-revoked=true")}
	if v.Repo, err = remote.Parse(name); err != nil {
		return nil, err
	}
	return job.Verify(env, env.Talk(), v)
}

const copyUsage = `usage: pv-copy [-k KEY] FROM TO [SNAPSHOT…]

    pv-get TO --ids | pv-get FROM --copy ID --since OLDER --known - | pv-put TO

Copies each SNAPSHOT, or if none is given all that TO lacks, oldest first, and prints
the ids of those that it has copied. What TO has already is not sent. It takes no key,
and everything stays sealed.

  FROM, TO   directory, or ssh://[user@]host[:port]/path
  SNAPSHOT   a full id; with a key also the beginning of one, a label, or latest
  -k KEY     list, read or master key (or PV_KEY)
  -v, -q     say more, say only errors and warnings
`

func beginCopy(env *tool.Env, a *arguments) (*job.Run, error) {
	a.common()
	words, err := a.env.Parse(a.fs, copyUsage)
	if err == nil {
		err = a.hold()
	}
	if err != nil {
		return nil, err
	}
	switch {
	case len(a.repos) > 0:
		return nil, tool.Usagef("name the two repositories without -r")
	case len(words) < 2:
		return nil, tool.Usagef("two repositories are needed")
	}
	q := job.CopyRequest{Key: a.key, Snapshots: words[2:]}
	if q.From, err = remote.Parse(words[0]); err == nil {
		q.To, err = remote.Parse(words[1])
	}
	if err != nil {
		return nil, err
	}
	return job.CopySnapshots(env, env.Talk(), q)
}
