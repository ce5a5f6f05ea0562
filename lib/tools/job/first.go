package job

import (
	"preserve/lib/job"
	"preserve/lib/tool"
)

// The names in the text are for the user's shell.
const firstUsage = `usage: pv-first-backup DIR

    pv-key new -o master.key
    pv-key derive write|read -k master.key -o write.key|read.key
    pv-backup -r repo -k write.key DIR

Backs up DIR into a repository in your data directory. Makes there what is missing: a
master key, a write key and a read key, and the repository.

  ${XDG_DATA_HOME:-$HOME/.local/share}/preserve/
    master.key  makes the other keys; move it to a safe place
    write.key   makes backups, and can read none
    read.key    restores
    repo        the repository

  -v, -q     say more, say only errors and warnings
`

func beginFirst(env *tool.Env, a *arguments) (*job.Run, error) {
	words, err := env.Parse(a.fs, firstUsage)
	if err != nil {
		return nil, err
	}
	if len(words) != 1 {
		return nil, tool.Usagef("which directory is to be backed up? make backup SRC=DIR")
	}
	return job.FirstBackup(env, env.Talk(), words[0])
}
