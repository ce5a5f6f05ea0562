// Package json is pv-json: it shows any stream as JSON, one line for each
// record, and makes a stream of such lines again.
//
// A record is an object, "t" first. The notation is lossless, and survives
// programs that keep numbers as floats (jq before 1.7):
//
//   - Bytes are a string if they are UTF-8, else {"b64": "…"}. Which keys hold
//     bytes is fixed (see byteKeys): a string at one of them is bytes, at any
//     other key one of our own words.
//   - Integers beyond ±2^53 are {"int": "18446744073709551615"}.
//   - A word that is not UTF-8 is {"str": "…"}, its bytes in base64. An "x-" key
//     that is not UTF-8 is an error.
//   - Values of an entry's "x-" keys may be of any type. There bytes are always
//     {"b64": "…"}; floats are {"float": "0.1"} and {"float32": "0.1"}, a NaN by
//     its bits ({"float": "0x7ff8000000000001"}); a map is an object, or, if
//     that could be taken for one of these forms, if a key comes twice or is
//     no UTF-8 string, {"map": [[key, value], …]}.
//
// The way back checks every record and writes it in canonical form, so that the
// order of keys in a line does not matter.
package json

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"preserve/lib/confine"
	"preserve/lib/jsontext"
	"preserve/lib/rec"
	"preserve/lib/tool"
	"preserve/lib/wire"
)

const usage = `usage: pv-json <stream >lines
       pv-json -r <lines >stream

Shows any stream, a pack too, as JSON: one line for each record, which jq or a
program of your own may change. With -r it makes a stream of such lines again.

  -r      from JSON lines to a stream
  -v, -q  say more, say only errors and warnings
`

// Run is pv-json.
func Run(env *tool.Env) error {
	env.DropKey()
	fs := env.Flags()
	back := fs.Bool("r", false, "")
	words, err := env.Parse(fs, usage)
	switch {
	case err != nil:
		return err
	case len(words) > 0:
		return tool.Usagef("unexpected argument %q", words[0])
	}
	env.Confine(confine.Limits{})
	if *back {
		stdout, err := env.Records()
		if err != nil {
			return err
		}
		out := rec.NewWriter(stdout)
		return out.Close(env.Name, fromJSON(env.Stdin, out))
	}
	stdin, err := env.Input()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(env.Stdout, 64<<10)
	err = toJSON(env.Name, stdin, out)
	if ferr := out.Flush(); ferr != nil {
		return ferr
	}
	return err
}

// toJSON writes the lines of the stream in, or of several streams behind each
// other. A failure is the last line, as a fail record, so that the stage behind
// knows that it was told.
func toJSON(name string, in io.Reader, out *bufio.Writer) error {
	p := &printer{jsontext.NewPrinter(out), wire.NewWriter()}
	_, err := each(&patient{in, out.Flush}, p.record)
	if err == nil {
		return nil
	}
	fail := &rec.Fail{Tool: name, Text: rec.Text(err.Error())}
	var told *rec.FailError
	if errors.As(err, &told) {
		fail = &rec.Fail{Tool: told.Tool, Text: told.Text}
	}
	if perr := p.record(fail); perr != nil {
		return perr
	}
	return err
}

// A patient reader lets go of what was written before it reads on: the output never
// waits while the input stalls.
type patient struct {
	in    io.Reader
	flush func() error
}

func (p *patient) Read(b []byte) (int, error) {
	if err := p.flush(); err != nil {
		return 0, err
	}
	return p.in.Read(b)
}

// each hands all records of a stream, or of several behind each other, to fn.
// The error comes with the Reader, whose last record it may concern.
func each(in io.Reader, fn func(rec.Record) error) (*rec.Reader, error) {
	r, err := rec.ReadAny(in)
	if err != nil {
		return r, err
	}
	r.Several()
	var v rec.Record
	for v, err = r.Head(); err == nil; v, err = r.Next() {
		if err := r.Wrap(fn(v)); err != nil {
			return r, err
		}
	}
	if err == io.EOF {
		err = nil
	}
	return r, err
}

// A printer prints records.
type printer struct {
	text *jsontext.Printer
	wire *wire.Writer
}

// record prints one record and frees it.
func (p *printer) record(v rec.Record) error {
	if err := keys(v); err != nil {
		return err
	}
	p.wire.Reset()
	err := rec.Append(p.wire, v)
	release(v)
	if err != nil {
		return err
	}
	return p.text.Line(p.wire.Bytes())
}

// release gives back the memory of a record's data.
func release(v rec.Record) {
	switch v := v.(type) {
	case *rec.Chunk:
		v.Free()
	case *rec.Blob:
		v.Free()
	}
}

// keys refuses a foreign key that JSON has no way to keep.
func keys(v rec.Record) error {
	e, ok := v.(*rec.Entry)
	if !ok {
		return nil
	}
	for _, x := range e.X {
		if !utf8.ValidString(x.Key) {
			return fmt.Errorf("entry %s: key %q is not UTF-8 and cannot be kept in JSON", rec.Quote(e.Path), x.Key)
		}
	}
	return nil
}

// fromJSON writes the stream that the lines of in are.
func fromJSON(in io.Reader, out *rec.Writer) error {
	lines := jsontext.NewLines(&patient{in, out.Flush})
	r, err := each(lines, func(v rec.Record) error {
		defer release(v)
		return out.Write(v)
	})
	switch {
	case errors.Is(lines.Err, io.ErrUnexpectedEOF) && err != nil:
		return rec.ErrCut
	case lines.Err != nil && lines.Err != io.EOF:
		return lines.Err // the reader has only seen its input end
	case errors.Is(err, rec.ErrNotOurs):
		return fmt.Errorf("line %d: %w", lines.N, err)
	case err != nil && strings.HasPrefix(err.Error(), r.Pos()+": "):
		return fmt.Errorf("line %d: %w", lines.N, errors.Unwrap(err))
	}
	return err
}
