package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// A finding is what one test says of a sample.
type finding struct {
	test  string
	value string
	bad   bool
}

// farOut is how many standard deviations are too many: noise is so far out in one of
// 1,744,278 tests. ent has a bound of its own, which it is documented with.
const (
	farOut    = 5.0
	farOutEnt = 3.719 // p below 1e-4 or above 1-1e-4

	// The largest of 65536 counts is 4 to 5 deviations out.
	farOutOfMany = 8.0
)

func deviation(test string, z float64) finding {
	return finding{test, fmt.Sprintf("%+.2f sd", z), !(math.Abs(z) <= farOut)}
}

// chiSquare is how far counts are from all being the same, in standard deviations
// of a normal distribution (Wilson and Hilferty).
func chiSquare(counts []uint64) float64 {
	total := uint64(0)
	for _, c := range counts {
		total += c
	}
	want := float64(total) / float64(len(counts))
	x := 0.0
	for _, c := range counts {
		x += (float64(c) - want) * (float64(c) - want) / want
	}
	return normal(x, float64(len(counts)-1))
}

func normal(x, freedom float64) float64 {
	v := 2 / (9 * freedom)
	return (math.Cbrt(x/freedom) - (1 - v)) / math.Sqrt(v)
}

// battery asks all tests. The order is that of the report.
func battery(s sample, dir string) ([]finding, error) {
	found := slices.Concat(bytesAndBits(s.all), pairs(s.all), correlation(s.all), positions(s),
		[]finding{nonces(s), blocks(s)})
	others, err := outside(s.all, dir)
	return append(found, others...), err
}

func bytesAndBits(b []byte) []finding {
	counts := make([]uint64, 256)
	changes, last := uint64(0), b[0]>>7
	for _, c := range b {
		counts[c]++
		// Within the byte, and from the last bit of the one before.
		changes += uint64(bits.OnesCount8((c^c>>1)&0x7f)) + uint64(last^c>>7)
		last = c & 1
	}
	n := float64(len(b))
	found := []finding{deviation("bytes, chi-square", chiSquare(counts))}
	ones, worst := 0.0, 0.0
	for bit := range 8 {
		k := 0.0
		for c, m := range counts {
			k += float64(m) * float64(c>>bit&1)
		}
		ones += k
		if z := (k - n/2) / math.Sqrt(n/4); math.Abs(z) > math.Abs(worst) {
			worst = z
		}
	}
	share := ones / (8 * n)
	runs := float64(changes) - 2*8*n*share*(1-share)
	return append(found,
		deviation("bits, ones", (ones-4*n)/math.Sqrt(2*n)),
		deviation("bits, the worst of 8 places", worst),
		deviation("bits, runs", runs/(2*math.Sqrt(8*n)*share*(1-share))))
}

func pairs(b []byte) []finding {
	counts := make([]uint64, 1<<16)
	mean := float64(len(b)/2) / float64(len(counts))
	for ; len(b) >= 2; b = b[2:] {
		counts[binary.LittleEndian.Uint16(b)]++
	}
	most := (float64(slices.Max(counts)) - mean) / math.Sqrt(mean)
	return []finding{
		deviation("pairs of bytes, chi-square", chiSquare(counts)),
		{"pairs of bytes, the most frequent", fmt.Sprintf("%+.2f sd", most), !(most <= farOutOfMany)},
	}
}

func correlation(b []byte) []finding {
	var found []finding
	for _, lag := range []int{1, 2, 4, 8, 12, 16, 64, 4096} {
		if lag >= len(b) {
			break
		}
		sum := int64(0) // of products of twice the distances from the mean
		for i, c := range b[lag:] {
			sum += (2*int64(c) - 255) * (2*int64(b[i]) - 255)
		}
		const variance = (256*256 - 1) / 3.0
		n := float64(len(b) - lag)
		found = append(found, deviation(fmt.Sprintf("correlation, %d bytes apart", lag), float64(sum)/variance/math.Sqrt(n)))
	}
	return found
}

// positions looks at the same place of all blobs: each byte of the nonce, of the
// first 16 bytes behind it, and of the last 16.
func positions(s sample) []finding {
	var counts [44][256]uint64
	s.blobs(func(b []byte) {
		for i := range 28 {
			counts[i][b[i]]++
		}
		for i := range 16 {
			counts[28+i][b[len(b)-16+i]]++
		}
	})
	var found []finding
	for _, part := range []struct {
		name     string
		from, to int
	}{{"nonces", 0, 12}, {"first bytes", 12, 28}, {"tags", 28, 44}} {
		worst := 0.0
		for i := part.from; i < part.to; i++ {
			if z := chiSquare(counts[i][:]); !(math.Abs(z) <= math.Abs(worst)) {
				worst = z
			}
		}
		found = append(found, deviation(fmt.Sprintf("%s of %d blobs, the worst place", part.name, len(s.ends)), worst))
	}
	return found
}

// nonces counts those that came before.
func nonces(s sample) finding {
	seen, again := make(map[[12]byte]bool), 0
	s.blobs(func(b []byte) {
		n := [12]byte(b)
		if seen[n] {
			again++
		}
		seen[n] = true
	})
	return finding{"nonces that came before", fmt.Sprint(again), again > 0}
}

// blocks counts the blocks of 16 bytes behind a blob's nonce that begin with the
// same 8 bytes as another: among 2^26 blocks of noise, in one GiB, that happens once
// in ten thousand times.
func blocks(s sample) finding {
	begins := make([]uint64, 0, len(s.all)/16)
	s.blobs(func(b []byte) {
		for b = b[12:]; len(b) >= 16; b = b[16:] {
			begins = append(begins, binary.LittleEndian.Uint64(b))
		}
	})
	slices.Sort(begins)
	again := 0
	for i := 1; i < len(begins); i++ {
		if begins[i] == begins[i-1] {
			again++
		}
	}
	return finding{"blocks of 16 bytes that begin as another", fmt.Sprint(again), again > 0}
}
