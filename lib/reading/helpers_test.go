package reading

import "preserve/lib/rec"

func dir(p string) *rec.Entry { return &rec.Entry{Path: p, Type: rec.Dir, Mode: 0o755} }

func file(p string) *rec.Entry { return &rec.Entry{Path: p, Type: rec.File, Mode: 0o644} }
