package main

import (
	"bytes"
	"slices"
)

// A sample is sealed forms, one behind the other.
type sample struct {
	all  []byte
	ends []int // where each blob's ends; what is behind the last is not a blob
}

// collect takes all sealed forms of a repository.
func collect(repo string) (sample, error) {
	var s sample
	var sessions []byte
	err := sealed(repo, func(b blob) error {
		if b.session {
			sessions = append(sessions, b.data...)
			return nil
		}
		s.add(b.data)
		return nil
	})
	s.all = append(s.all, sessions...)
	return s, err
}

func (s *sample) add(b []byte) {
	s.all = append(s.all, b...)
	s.ends = append(s.ends, len(s.all))
}

// blobs calls each with every blob, in order.
func (s sample) blobs(each func(b []byte)) {
	begin := 0
	for _, end := range s.ends {
		each(s.all[begin:end])
		begin = end
	}
}

// head is a copy of the first blobs, of at most size bytes.
func (s sample) head(size int) sample {
	n := 0
	for n < len(s.ends) && s.ends[n] <= size {
		n++
	}
	if n == 0 {
		return sample{all: bytes.Clone(s.all[:min(size, len(s.all))])}
	}
	return sample{bytes.Clone(s.all[:s.ends[n-1]]), slices.Clone(s.ends[:n])}
}
