// Package job is pv-job: the decisions of the scripts. A script is a pipeline; what each
// stage is told, in which order the passes come, what they have come to and what is
// remembered is package job's. This package reads the command lines that people write.
package job

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"preserve/lib/job"
	"preserve/lib/tool"
)

const usage = `usage: pv-job begin SCRIPT ARGUMENT…   prints RUN
       pv-job next RUN [STATUS]        prints the name of a pass
       pv-job end RUN [interrupted]

	run=$(pv-job begin backup "$@") || exit
	exec 9>"$run/lock"
	while pass=$(pv-job next "$run" "$status"); do
	    pv-scan @"$run/scan" | … | pv-put @"$run/put" 1<>"$run/report" &
	    wait $! && status=0 || status=$?
	done
	pv-job end "$run"

Decides what a script does: backup, restore, list, verify, copy, recover or
first-backup. begin reads the script's arguments and makes the private directory RUN,
with a file of arguments for each stage. If the key comes from a pipe it prints
"hold KEY" and does nothing: the script starts again under pv-key hold. next reads
the report of the pass before, and STATUS, the exit status of its last stage. It
prepares the next pass, or exits with 1 if there is none. end prints what the run
has done, and removes RUN.

  -v, -q     say more, say only errors and warnings
`

// A verb is one of the scripts.
type verb struct {
	usage string
	begin func(env *tool.Env, args *arguments) (*job.Run, error)
}

var verbs = map[string]verb{
	"backup":  {backupUsage, beginBackup},
	"restore": {restoreUsage, beginRestore},
	"list":    {listUsage, beginList},
	"verify":  {verifyUsage, beginVerify},
	"copy":    {copyUsage, beginCopy},
	"recover": {recoverUsage, beginRecover},

	"first-backup": {firstUsage, beginFirst},
}

// Run is pv-job.
func Run(env *tool.Env) error {
	if len(env.Args) >= 2 && env.Args[0] == "begin" {
		if v, known := verbs[env.Args[1]]; known {
			env.Name, env.Args = "pv-"+env.Args[1], env.Args[2:]
			return begin(env, v)
		}
	}
	words, err := env.Parse(env.Flags(), usage)
	if err != nil {
		return err
	}
	switch {
	case len(words) >= 2 && len(words) <= 3 && words[0] == "next":
		return next(env, words[1:])
	case len(words) == 2 && words[0] == "end", len(words) == 3 && words[0] == "end" && words[2] == "interrupted":
		return end(env, words[1], len(words) == 3)
	}
	return tool.Usagef("use begin SCRIPT, next RUN, or end RUN")
}

func begin(env *tool.Env, v verb) error {
	a := newArguments(env)
	r, err := v.begin(env, a)
	var hold *holdError
	if errors.As(err, &hold) {
		_, err = fmt.Fprintln(env.Stdout, "hold", hold.key)
		return err
	}
	if err != nil {
		return err
	}
	if r.Locked {
		_, err = fmt.Fprintln(env.Stdout, "hold", r.Dir())
		return err
	}
	_, err = fmt.Fprintln(env.Stdout, r.Dir())
	return err
}

func open(env *tool.Env, dir string) (*job.Run, error) {
	r, err := job.Open(env, dir)
	if err == nil {
		env.Name = "pv-" + r.Verb
		env.Hush(r.Talk)
	}
	return r, err
}

func next(env *tool.Env, words []string) error {
	status := 0
	if len(words) == 2 {
		n, err := strconv.Atoi(words[1])
		if err != nil || n < 0 || n > 255 {
			return tool.Usagef("%q is not an exit status", words[1])
		}
		status = n
	}
	r, err := open(env, words[0])
	if err != nil {
		return err
	}
	pass, err := r.Next(status)
	if errors.Is(err, job.ErrDone) {
		return tool.ErrTold
	}
	if err != nil {
		return err
	}
	if r.Copy == nil { // there the ids of what was copied stand on stdout
		_, err = fmt.Fprintln(env.Stdout, pass)
	}
	return err
}

func end(env *tool.Env, dir string, interrupted bool) error {
	r, err := open(env, dir)
	if err != nil {
		return err
	}
	return r.End(interrupted)
}

// arguments is a command line that is being read: the options that go to a stage are kept
// for it, in their order, as --name=value.
type arguments struct {
	env   *tool.Env
	fs    *tool.FlagSet
	repos []string
	key   string
	given map[string]bool
}

func newArguments(env *tool.Env) *arguments {
	a := &arguments{env: env, fs: env.Flags(), given: map[string]bool{}}
	return a
}

// common has the options that most scripts take.
func (a *arguments) common() {
	a.fs.Func("r", "", func(s string) error { a.repos = append(a.repos, s); return nil })
	a.fs.StringVar(&a.key, "k", os.Getenv("PV_KEY"), "")
}

// pass makes options that a stage gets: each name in names, which with "=" behind it takes
// an argument.
func (a *arguments) pass(to *[]string, names ...string) {
	for _, n := range names {
		name, takes := strings.CutSuffix(n, "=")
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		if takes {
			a.fs.Func(name, "", func(s string) error {
				a.given[name] = true
				*to = append(*to, dashes+name+"="+s)
				return nil
			})
			continue
		}
		a.fs.BoolFunc(name, "", func(s string) error {
			a.given[name] = true
			*to = append(*to, dashes+name+"="+s)
			return nil
		})
	}
}

// parse reads the command line, and returns its other words.
func (a *arguments) parse(usage string) ([]string, error) {
	words, err := a.env.Parse(a.fs, usage)
	if err != nil {
		return nil, err
	}
	if len(a.repos) == 0 && os.Getenv("PV_REPO") != "" {
		a.repos = []string{os.Getenv("PV_REPO")}
	}
	return words, a.hold()
}

// A holdError is a key that cannot be read by several stages, each by itself.
type holdError struct{ key string }

func (e *holdError) Error() string { return fmt.Sprintf("key %q can be read only once", e.key) }

// hold returns a holdError if the key comes from a pipe, or by a descriptor of the script's,
// which uses its descriptors itself. When pv-key hold has taken such a key, PV_HELD says so,
// and PV_KEY names it, whatever -k says.
func (a *arguments) hold() error {
	if os.Getenv("PV_HELD") != "" {
		a.key = os.Getenv("PV_KEY")
		return nil
	}
	st, err := os.Stat(a.key)
	if a.key == "" || err != nil || st.IsDir() { // whoever opens it says so
		return nil
	}
	link, err := os.Readlink(a.key)
	switch {
	case err == nil && link == tool.HeldKey: // by pv-key hold, before the script
		return nil
	case !st.Mode().IsRegular(), strings.HasPrefix(a.key, "/dev/fd/"), a.key == "/dev/stdin", strings.HasPrefix(a.key, "/proc/"):
		return &holdError{a.key}
	}
	return nil
}

// one is the only repository, and the key.
func (a *arguments) one() (string, error) {
	switch {
	case len(a.repos) == 0:
		return "", tool.Usagef("a repository is needed: -r REPO or PV_REPO")
	case len(a.repos) > 1:
		return "", tool.Usagef("one repository at a time")
	case a.key == "":
		return "", tool.Usagef("a key is needed: -k KEY or PV_KEY")
	}
	return a.repos[0], nil
}

var trusting = []string{"revoked=", "allow-revoked"}

func has(list []string, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(list, w) })
}
