package main

import (
	"fmt"
	"io"
	"strings"
)

// judge asks the battery about the real thing and about every fault. Noise looks
// bad once in four thousand times: then it is asked once more, of a fresh repository.
func judge(s *sealer, o options, out io.Writer) error {
	var real sample
	for try := 1; ; try++ {
		repo, err := s.repository(o.size)
		if err != nil {
			return err
		}
		if real, err = collect(repo); err != nil {
			return err
		}
		found, err := battery(real, s.work)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d bytes, %d blobs of zeros, text and counters, sealed by the tools:\n", len(real.all), len(real.ends))
		report(out, found)
		bad := caught(found)
		if bad == "" {
			break
		}
		if try == 2 {
			return fmt.Errorf("sealed data does not look like noise, twice: %s", bad)
		}
		fmt.Fprintf(out, "once more, with new keys, since this is not like noise: %s\n", bad)
	}
	return plant(s, real, out)
}

func plant(s *sealer, real sample, out io.Writer) error {
	p, err := newPlanter(real)
	if err != nil {
		return err
	}
	// Without a fault nothing may be found, or what is found below means nothing.
	for try := 1; ; try++ {
		found, err := battery(sound(p), s.work)
		if err != nil {
			return err
		}
		bad := caught(found)
		if bad == "" {
			break
		}
		if try == 2 {
			return fmt.Errorf("the sealer for faults is not sound without one: %s", bad)
		}
	}
	fmt.Fprintf(out, "\nplanted faults, in %d MB each, and what found them:\n", plantSize/mb)
	missed := 0
	for _, f := range faults {
		found, err := battery(f.make(p), s.work)
		if err != nil {
			return err
		}
		by := caught(found)
		if by == "" {
			by = "NOTHING"
			missed++
		}
		fmt.Fprintf(out, "  %s: %s\n", f.name, by)
	}
	if missed > 0 {
		return fmt.Errorf("%d planted faults of %d were not found", missed, len(faults))
	}
	fmt.Fprintf(out, "\nsealed data looks like noise, and all %d planted faults were found\n", len(faults))
	return nil
}

func report(out io.Writer, found []finding) {
	for _, f := range found {
		mark := ""
		if f.bad {
			mark = "  BAD"
		}
		fmt.Fprintf(out, "  %-46s %s%s\n", f.test, f.value, mark)
	}
}

// caught names the tests that found something.
func caught(found []finding) string {
	var names []string
	for _, f := range found {
		if f.bad {
			names = append(names, f.test)
		}
	}
	return strings.Join(names, "; ")
}
