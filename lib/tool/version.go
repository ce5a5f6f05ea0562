package tool

import "runtime/debug"

// Version of the programs.
const Version = "1.0-dev"

// stamp is the commit and its date. The Makefile sets it, where the source is a git work tree;
// "go install" leaves it to the build information.
var stamp string

// version is what --version prints: the command's name, the version, the commit and its date.
func version(name string) string {
	at := stamp
	if info, ok := debug.ReadBuildInfo(); ok && at == "" {
		at = built(info.Settings)
	}
	if at == "" {
		at = "commit unknown"
	}
	return name + " " + Version + " (" + at + ")\n"
}

// built is the stamp that the build information holds; empty if it knows no commit.
func built(settings []debug.BuildSetting) string {
	of := map[string]string{}
	for _, s := range settings {
		of[s.Key] = s.Value
	}
	commit, date := of["vcs.revision"], of["vcs.time"]
	if commit == "" {
		return ""
	}
	commit = "commit " + commit[:min(12, len(commit))]
	if of["vcs.modified"] == "true" {
		commit += "-dirty"
	}
	return commit + ", " + date[:min(10, len(date))]
}
