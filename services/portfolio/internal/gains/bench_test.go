package gains

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// manyMovements are those of an owner who trades 40 tokens for dollars in five wallets: swaps with fees, transfers
// between the wallets, income.
func manyMovements(n int) ([]Movement, *values) {
	random := rand.New(rand.NewPCG(1, 2))
	v := &values{tokens: map[string]Token{}, prices: map[TokenHour]*Price{}, rates: map[int64]currency.Rate{}}
	out := make([]Movement, 0, n+3)
	at := on(2020, 1, 1)
	add := func(wallet, token, hash string, kind Kind, in bool, amount int64, other string) {
		v.tokens[token] = Token{Decimals: 6}
		hour := hourOf(token, at)
		if v.prices[hour] == nil {
			v.prices[hour] = &Price{USD: fmt.Sprintf("%d.%04d", 1+hour.Hour/3600%97, random.IntN(10_000))}
		}
		v.rates[hour.Hour] = currency.Rate{Currency: "EUR", Price: "1.0842"}
		out = append(out, Movement{Wallet: wallet, Token: token, Hash: hash, Kind: kind, In: in, Time: at,
			Amount: big.NewInt(amount), CounterpartyWallet: other, Block: uint64(len(out)), Log: int32(len(out)),
			Price: v.prices[hour]})
	}
	for i := 0; len(out) < n; i++ {
		at = at.Add(time.Duration(random.IntN(60)) * time.Minute)
		hash, w, token := fmt.Sprintf("0x%064d", i), fmt.Sprint("w", random.IntN(5)), fmt.Sprint("t", random.IntN(40))
		switch random.IntN(4) {
		case 0, 1:
			in := random.IntN(2) == 0
			add(w, token, hash, Transfer, in, 1+random.Int64N(1e9), "")
			add(w, "usd", hash, Transfer, !in, 1+random.Int64N(1e9), "")
			add(w, "coin", hash, Fee, false, 1+random.Int64N(1e6), "")
		case 2:
			to, amount := fmt.Sprint("w", random.IntN(5)), 1+random.Int64N(1e9)
			add(w, token, hash, Transfer, false, amount, to)
			add(to, token, hash, Transfer, true, amount, w)
		case 3:
			add(w, token, hash, Transfer, true, 1+random.Int64N(1e9), "")
		}
	}
	return out[:n], v
}

// set computes all of movements.
func (l *Ledger) set(b *testing.B, moved []Movement, v *values) {
	b.Helper()
	l.Prepare(moved, v)
	if err := l.Compute(l.events, never); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLotsOfOneOwner computes the lots of 100,000 transactions in euros, anew and after one that is back-dated
// was mended, of one of 40 tokens. The goals are 2 s and 100 ms.
func BenchmarkLotsOfOneOwner(b *testing.B) {
	const n = 100_000
	moved, v := manyMovements(n)
	for name, rules := range map[string]Rules{"FIFO": {Method: lots.FIFO, PerWallet: true},
		"HIFO": {Method: lots.HIFO, PerWallet: true}, "average": {Method: lots.Average}, "US": {View: US},
		"UK": {View: UK}} {
		rules.Zone = time.UTC
		b.Run(name+"/100000 transactions", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				NewLedger(rules, nil).set(b, moved, v)
			}
			b.ReportMetric(2, "goal-s")
		})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l := NewLedger(rules, nil)
		l.set(b, moved, v)
		runtime.GC()
		runtime.ReadMemStats(&after)
		kept := float64(after.HeapAlloc) - float64(before.HeapAlloc)
		for _, share := range []int{1, 50, 99} {
			late := n / 100 * share
			for moved[late].Token == "usd" || moved[late].Token == "coin" {
				late++
			}
			b.Run(fmt.Sprintf("%s/one edit at %d %%", name, share), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer() // the movements come from wallet
					mended := slices.Clone(l.moved)
					mended[late].Amount = new(big.Int).Add(mended[late].Amount, big.NewInt(1))
					b.StartTimer()
					l.set(b, mended, v)
				}
				b.ReportMetric(kept, "kept-bytes")
				b.ReportMetric(0.1, "goal-s")
			})
		}
	}
}
