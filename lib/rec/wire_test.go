package rec

import "preserve/lib/wire"

func newWire() *wire.Writer           { return wire.NewWriter() }
func newCursor(b []byte) *wire.Cursor { return wire.NewCursor(b, true) }
