package job

import (
	"preserve/lib/job"
	"preserve/lib/remote"
	"preserve/lib/tool"
)

const recoverUsage = `usage: pv-recover [--key NAME] [--passphrase-file FILE] [-o KEYFILE]
                  [--revoked FILE] [--allow-revoked] REPO DIR [SNAPSHOT]

    pv-get REPO --key NAME >WRAPPED
    pv-key hold -k WRAPPED -- pv-restore -r REPO SNAPSHOT DIR

Restores from a repository that holds a wrapped key, and its passphrase, when every
machine and every key file is lost. DIR must not exist or be empty. SNAPSHOT is
latest if it is not given. Prints whose snapshot it restores, and the command for
the newest of each other writer, host and label.

  REPO                    directory, or ssh://[user@]host[:port]/path
  --key NAME              which wrapped key, if there are several
  --passphrase-file FILE  read the passphrase from FILE, do not ask for it
  -o KEYFILE              keep the key there; else it is in memory only
  --revoked FILE, --allow-revoked
                          refuse, or accept, what revoked writers made
  -v, -q                  say more, say only errors and warnings

A wrapped key gets into a repository with: pv-key wrap -k KEY | pv-put --key NAME REPO
`

func beginRecover(env *tool.Env, a *arguments) (*job.Run, error) {
	q := job.RecoverRequest{}
	a.fs.StringVar(&q.Name, "key", "", "")
	a.fs.StringVar(&q.Passphrase, "passphrase-file", "", "")
	a.fs.StringVar(&q.Keep, "o", "", "")
	a.pass(&q.Trust, trusting...)
	words, err := a.env.Parse(a.fs, recoverUsage)
	if err == nil {
		err = a.hold()
	}
	switch {
	case err != nil:
		return nil, err
	case len(words) < 2 || len(words) > 3:
		return nil, tool.Usagef("a repository and a directory are needed, and perhaps a snapshot")
	case len(words) == 3 && words[2] == "":
		return nil, errEmpty
	}
	q.Held, q.Dir = a.key, words[1]
	if len(words) == 3 {
		q.Snapshot = words[2]
	}
	if q.Repo, err = remote.Parse(words[0]); err != nil {
		return nil, err
	}
	return job.Recover(env, env.Talk(), q)
}
