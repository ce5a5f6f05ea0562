package main

import "io"

func judge(s *sealer, o options, out io.Writer) error { return nil }
