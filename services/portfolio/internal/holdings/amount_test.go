package holdings

import (
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestAmountsAreReadAsBigIntsReadThem(t *testing.T) {
	texts := []string{"", "0", "00", "7", "-1", "+1", "1_0", "0x1", " 1", "1e3", "-" + strings.Repeat("9", 18),
		"1" + strings.Repeat("0", 18) + "-5", "5-" + strings.Repeat("0", 19)}
	for n := 1; n <= 80; n++ {
		texts = append(texts, strings.Repeat("9", n), "1"+strings.Repeat("0", n), strings.Repeat("0", n)+"1")
	}
	for _, bits := range []uint{63, 64, 127, 128, 255, 256} {
		limit := new(big.Int).Lsh(big.NewInt(1), bits)
		texts = append(texts, limit.String(), limit.Sub(limit, big.NewInt(1)).String())
	}
	for range 10_000 {
		digits := make([]byte, 1+rand.N(78))
		for i := range digits {
			digits[i] = byte('0' + rand.N(10))
		}
		texts = append(texts, string(digits))
	}
	for _, text := range texts {
		want, wantOK := new(big.Int).SetString(text, 10)
		got, ok := amountOf(text)
		if ok != wantOK || ok && got.Cmp(want) != 0 {
			t.Fatalf("%q is read as %s, %t; want %s, %t", text, got, ok, want, wantOK)
		}
	}
}
