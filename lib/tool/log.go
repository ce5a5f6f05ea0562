package tool

import (
	"context"
	"log/slog"
	"strings"
)

// handler writes slog records as the messages of a command: one line, the text
// first, attributes behind it.
type handler struct{ e *Env }

func (h handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.e.level.Level() }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(" " + a.String())
		return true
	})
	h.e.Say("%s", b.String())
	return nil
}

// The commands use neither groups nor preset attributes.
func (h handler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h handler) WithGroup(string) slog.Handler      { return h }
