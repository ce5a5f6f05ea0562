package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"preserve/lib/confine"
	"preserve/lib/tool"
	"preserve/lib/tools/check"
	"preserve/lib/tools/chunk"
	"preserve/lib/tools/diff"
	"preserve/lib/tools/gc"
	"preserve/lib/tools/get"
	"preserve/lib/tools/join"
	"preserve/lib/tools/json"
	"preserve/lib/tools/keep"
	"preserve/lib/tools/ls"
	"preserve/lib/tools/open"
	"preserve/lib/tools/put"
	"preserve/lib/tools/seal"
	"preserve/lib/tools/tar"
	"preserve/lib/tools/unpack"
)

// turned are tools that somebody has taken over through their input: where that ends they
// try what they must not be able to, and say what comes of it.
var turned = map[string]func(*tool.Env) error{
	"turned-chunk": chunk.Run, "turned-seal": seal.Run, "turned-put": put.Run, "turned-get": get.Run, "turned-unpack": unpack.Run, "turned-json": json.Run,
	"turned-open": open.Run, "turned-ls": ls.Run, "turned-tar": tar.Run, "turned-keep": keep.Run,
	"turned-join": answers(join.Run), "turned-diff": answers(diff.Run), "turned-check": answers(check.Run), "turned-gc": answers(gc.Run),
	"turned-putkey": answers(put.Run),
}

// answers lets a tool try when it first writes to stdout or stderr: it may read no stdin, or all of it before
// it is confined.
func answers(run func(*tool.Env) error) func(*tool.Env) error {
	return func(env *tool.Env) error {
		var once sync.Once
		env.Stdout, env.Stderr = &answer{env.Stdout, &once}, &answer{env.Stderr, &once}
		env.Stdin = env.Stdin.(*turn).Reader
		return run(env)
	}
}

// An answer is the output of such a tool.
type answer struct {
	io.Writer
	once *sync.Once
}

func (a *answer) Write(b []byte) (int, error) {
	a.once.Do((&turn{}).try)
	return a.Writer.Write(b)
}

// A turn is the input of such a tool.
type turn struct {
	io.Reader
	done bool
}

func (t *turn) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	if err == io.EOF && !t.done {
		t.done = true
		t.try()
	}
	return n, err
}

func (t *turn) try() {
	elsewhere := filepath.Join(os.Getenv("WORK"), "elsewhere")
	for _, c := range []struct {
		name string
		try  func() error
	}{
		{"write", func() error { return os.WriteFile(filepath.Join(elsewhere, "planted"), nil, 0o600) }},
		{"remove", func() error { return os.Remove(filepath.Join(elsewhere, "precious")) }},
		{"read", func() error { _, err := os.ReadFile(filepath.Join(elsewhere, "precious")); return err }},
		{"run", func() error { return exec.Command("/bin/true").Run() }},
		{"connect", func() error { _, err := net.Dial("tcp", "127.0.0.1:1"); return err }}, // where nobody listens
	} {
		outcome := "done"
		if err := c.try(); errors.Is(err, os.ErrPermission) {
			outcome = "denied"
		} else if err != nil {
			outcome = err.Error()
		}
		fmt.Fprintf(os.Stderr, "%s: %s\n", c.name, outcome)
	}
}

// landlock fails where tools cannot confine themselves.
func landlock([]string) error { return confine.To(confine.Limits{}) }

func turnedTool(name string, run func(*tool.Env) error) func() {
	return func() {
		tool.Main(name, func(env *tool.Env) error {
			env.Stdin = &turn{Reader: env.Stdin}
			return run(env)
		})
	}
}
