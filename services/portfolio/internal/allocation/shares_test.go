package allocation

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/apd/v3"
)

func TestSharesSumToExactlyOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		values := make([]*apd.Decimal, 1+random.IntN(40))
		total := new(big.Int)
		for i := range values {
			n := random.Int64N(1 << (1 + random.IntN(62)))
			values[i] = apd.New(n, -8)
			if n%5 == 0 {
				values[i] = apd.New(n, 0) // an integer without decimals
			}
			total.Add(total, inUnits(values[i]))
		}
		got := Shares(values)
		if total.Sign() == 0 {
			if got != nil {
				t.Fatal(got)
			}
			continue
		}
		sum := new(big.Rat)
		for i, s := range got {
			share, _ := new(big.Rat).SetString(s.Text('f'))
			sum.Add(sum, share)
			exact := new(big.Rat).SetFrac(inUnits(values[i]), total)
			if diff := exact.Sub(exact, share); diff.Abs(diff).Cmp(big.NewRat(1, 100_000_000)) >= 0 {
				t.Fatalf("%s of %s has the share %s", values[i], total, s)
			}
		}
		if sum.Cmp(big.NewRat(1, 1)) != 0 {
			t.Fatalf("the shares of %v sum to %s", values, sum)
		}
	}
}

func TestWhatIsLeftGoesToThoseThatLostMost(t *testing.T) {
	for want, values := range map[string][]int64{
		"[0.33333334 0.33333333 0.33333333]": {1, 1, 1},
		"[0.66666667 0.33333333]":            {2, 1},
		"[1.00000000 0.00000000]":            {5, 0},
	} {
		var in []*apd.Decimal
		for _, v := range values {
			in = append(in, apd.New(v, 0))
		}
		var got []string
		for _, s := range Shares(in) {
			got = append(got, s.Text('f'))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%v: %v, want %s", values, got, want)
		}
	}
}
