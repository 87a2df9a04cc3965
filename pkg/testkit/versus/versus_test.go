package versus_test

import (
	"crypto/sha256"
	"testing"

	"github.com/purserhq/purser/pkg/testkit/versus"
)

func TestTheRatioIsThatOfTheWork(t *testing.T) {
	block := make([]byte, 4096)
	hash := func() { _ = sha256.Sum256(block) }
	result := testing.Benchmark(func(b *testing.B) {
		versus.Run(b, versus.Comparison{Goal: 3.5, Raw: hash, Ours: func() { hash(); hash(); hash() }})
	})
	if got := result.Extra["ratio"]; got < 2 || got > 4.5 {
		t.Errorf("three times the work is %.2f of the time", got)
	}
	if result.Extra["goal"] != 3.5 || result.Extra["raw-ns/op"] <= 0 || result.Extra["ns/op"] <= 0 {
		t.Errorf("%v", result.Extra)
	}
}
