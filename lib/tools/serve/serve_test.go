package serve

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"preserve/lib/tool"
)

const (
	id1 = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	id2 = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
)

func run(allow, asked string, more ...string) ([]string, error) {
	var out bytes.Buffer
	args := append([]string{"--as", "laptop", "--allow", allow, "/srv/re po"}, more...)
	return command(tool.NewEnv("pv-serve", args, strings.NewReader(""), &out, &out), asked)
}

func TestAllowed(t *testing.T) {
	put := []string{"pv-put", "--as", "laptop", "--log", "--no-loose", "--idle", "1h0m0s", "--", "/srv/re po"}
	for _, c := range []struct {
		allow, asked string
		want         []string
	}{
		{"put", "'pv-put' '/srv/re po'", put},
		{"put", "pv-put '/srv/re po'", put},
		{"put,has", "  pv-put  /srv/re' 'po ", put},
		{"put", "'pv-put' '-q' '/srv/re po'", []string{"pv-put", "-q", "--as", "laptop", "--log", "--no-loose", "--idle", "1h0m0s", "--", "/srv/re po"}},
		{"has", "'pv-get' '/srv/re po' '--has' '" + id1 + "'", []string{"pv-get", "--idle", "1h0m0s", "--has", id1, "--", "/srv/re po"}},
		{"has", "pv-get -v '/srv/re po' --has " + id1 + "," + id2, []string{"pv-get", "-v", "--idle", "1h0m0s", "--has", id1 + "," + id2, "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' " + id1, []string{"pv-get", "--idle", "1h0m0s", "--", "/srv/re po", id1}},
		{"get", "pv-get '/srv/re po' " + id1 + " --meta", []string{"pv-get", "--idle", "1h0m0s", "--meta", "--", "/srv/re po", id1}},
		{"get", "pv-get '/srv/re po' --blobs -", []string{"pv-get", "--idle", "1h0m0s", "--blobs", "-", "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' --snapshots", []string{"pv-get", "--idle", "1h0m0s", "--snapshots", "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' --ids", []string{"pv-get", "--idle", "1h0m0s", "--ids", "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' --copy " + id1, []string{"pv-get", "--idle", "1h0m0s", "--copy", id1, "--", "/srv/re po"}},
		{"get", "pv-get -q '/srv/re po' --copy " + id1 + " --since " + id2 + " --known -", []string{"pv-get", "-q", "--idle", "1h0m0s", "--copy", id1, "--since", id2, "--known", "-", "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' --copy " + id1 + " --since " + id2 + "," + id1, []string{"pv-get", "--idle", "1h0m0s", "--copy", id1, "--since", id2 + "," + id1, "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' '--copy' '" + id1 + "' '--known' '-'", []string{"pv-get", "--idle", "1h0m0s", "--copy", id1, "--known", "-", "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' --keys", []string{"pv-get", "--idle", "1h0m0s", "--keys", "--", "/srv/re po"}},
		{"get", "pv-get '/srv/re po' --key master", []string{"pv-get", "--idle", "1h0m0s", "--key", "master", "--", "/srv/re po"}},
	} {
		got, err := run(c.allow, c.asked)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v", c.asked, got, err)
		}
		for _, other := range []string{"put", "has", "get"} {
			if !strings.Contains(c.allow, other) {
				if got, err := run(other, c.asked); err == nil {
					t.Errorf("%s is allowed by %s: %q", c.asked, other, got)
				}
			}
		}
	}
	got, err := run("put", "pv-put '/srv/re po'", "--max-bytes", "10G", "--idle", "90s")
	if err != nil || !slices.Equal(got, []string{"pv-put", "--as", "laptop", "--log", "--no-loose", "--max-bytes", "10G", "--idle", "1m30s", "--", "/srv/re po"}) {
		t.Errorf("%q, %v", got, err)
	}
	got, err = run("put,heal", "pv-put '/srv/re po'")
	if err != nil || !slices.Equal(got, []string{"pv-put", "--as", "laptop", "--log", "--idle", "1h0m0s", "--", "/srv/re po"}) {
		t.Errorf("%q, %v", got, err)
	}
	got, err = run("get", "pv-get '/srv/re po' --ids", "--idle", "0")
	if err != nil || !slices.Equal(got, []string{"pv-get", "--ids", "--", "/srv/re po"}) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestRefused(t *testing.T) {
	repo := "'/srv/re po'"
	for _, asked := range []string{
		"", " ", "sh", "pv-put", "pv-get " + repo, "pv-put /srv", "pv-put '/srv/re po/'", "pv-put '/srv/../srv/re po'",
		"pv-put " + repo + " x", "pv-put --as other " + repo, "pv-put --max-bytes 1T " + repo, "pv-put " + repo + " --stall 1h", "pv-put --log " + repo, "pv-put " + repo + " --log", "pv-get " + repo + " --log",
		"pv-put -q -q " + repo, "pv-put " + repo + " -q", "/bin/pv-put " + repo, "./pv-put " + repo,
		"pv-put --key evil " + repo, "pv-unpack " + repo, "pv-gc " + repo,
		"pv-put " + repo + "; sh", "pv-put " + repo + "\nsh", "pv-put " + repo + " | sh", "pv-put " + repo + " && sh", "pv-put `sh`",
		"pv-put $(sh)", "pv-put \"/srv/re po\"", "pv-put '/srv/re po", "pv-put '/srv/re po\x00'", "pv-put /srv/re\\ po", "pv-put " + repo + " >x",
		"pv-get " + repo + " --has", "pv-get " + repo + " --has -", "pv-get " + repo + " --has " + id1[1:], "pv-get " + repo + " --has " + id1 + ",",
		"pv-get " + repo + " " + id1 + " " + id2, "pv-get " + repo + " " + strings.ToUpper(id2), "pv-get " + repo + " --blobs file",
		"pv-get " + repo + " --ids --has " + id1, "pv-get " + repo + " --key ../x", "pv-get " + repo + " --key -x", "pv-get " + repo + " --snapshots --meta",
		"pv-get " + repo + " --copy", "pv-get " + repo + " --copy latest", "pv-get " + repo + " --copy " + id1 + " --since", "pv-get " + repo + " --copy " + id1 + " --known /etc/passwd",
		"pv-get " + repo + " --copy " + id1 + " --known - --since " + id2, "pv-get " + repo + " --copy " + id1 + " --since " + id2 + " x", "pv-get " + repo + " --since " + id2 + " --copy " + id1,
		"pv-get " + repo + " " + id1 + " --since " + id2, "pv-get " + repo + " --known -", "pv-get " + repo + " --copy " + id1 + " --meta", "pv-get " + repo + " " + id1 + " --partial",
		"pv-get --ids " + repo, "pv-get " + repo + " " + id1 + " --has", strings.Repeat("x", maxCommand+1), "PATH=/tmp pv-put " + repo, "env pv-put " + repo,
	} {
		if got, err := run("put,has,get", asked); err == nil {
			t.Errorf("%q runs %q", asked, got)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"/srv"}, {"--as", "x", "/srv"}, {"--as", "x", "--allow", "put"}, {"--allow", "put", "/srv"}, {"--as", "x", "--allow", "put", "srv"},
		{"--as", "x", "--allow", "all", "/srv"}, {"--as", "x", "--allow", "put,", "/srv"}, {"--as", "x", "--allow", "heal,get", "/srv"}, {"--as", "x", "--allow", "put", "--max-bytes", "many", "/srv"},
		{"--as", "x", "--allow", "put", "/srv", "/x"},
	} {
		var out bytes.Buffer
		env := tool.NewEnv("pv-serve", args, strings.NewReader(""), &out, &out)
		_, err := command(env, "pv-put /srv")
		if status := env.Status(err); status != 2 {
			t.Errorf("%q: status %d, %v", args, status, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin", variable + "=x", "PV_REPO=y", "GOGC=off", "GODEBUG=z", "HOME=/"})
	if !slices.Equal(got, []string{"PATH=/bin", "HOME=/"}) {
		t.Errorf("%q", got)
	}
}

// Whatever a client sends: the repository is the one that is served, and what is
// run is one of two programs with options of ours.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"pv-put '/srv/re po'", "pv-get -q '/srv/re po' --has " + id1, "pv-get '/srv/re po' " + id1 + " --meta", `'a'\''b'`, "x;y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, asked string) {
		argv, err := run("put,has,get", asked)
		if err != nil {
			return
		}
		at := slices.Index(argv, "--")
		if argv[0] != "pv-put" && argv[0] != "pv-get" || at < 0 || argv[at+1] != "/srv/re po" || len(argv) > at+3 || len(argv) == at+3 && !isID(argv[at+2]) {
			t.Errorf("%q runs %q", asked, argv)
		}
	})
}
