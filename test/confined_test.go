package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"preserve/lib/confine"
	"preserve/lib/tool"
	"preserve/lib/tools/chunk"
	"preserve/lib/tools/get"
	"preserve/lib/tools/json"
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
	"turned-open": open.Run, "turned-ls": ls.Run, "turned-tar": tar.Run,
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
