package chainlink_test

import (
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/chainlink"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Whatever a contract answers for a round is no price, or is the answer divided by its decimals: above zero, and of
// a time that was.
func FuzzRounds(f *testing.F) {
	at := noon().Add(-time.Hour).Unix()
	f.Add(round(big.NewInt(285_355_000_000), at), number(8), text("ETH / USD"))
	f.Add(round(big.NewInt(1), noon().Unix()+300), number(18), text("X / USD"))
	f.Add(round(mask(), at), number(0), []byte{})
	f.Add(round(big.NewInt(5), at), word(mask()), number(5))
	f.Add([]byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, round, decimals, description []byte) {
		s := chainlink.New([]chainlink.Feed{{TokenID: ether, Chain: 1, Heartbeat: time.Hour}},
			answers{{Round: round, Decimals: decimals, Description: description}}, slog.New(slog.DiscardHandler), noon)
		got, err := s.Current(t.Context(), []token.Token{{ID: ether}})
		if err != nil {
			t.Fatal(err)
		}
		p, has := got[ether]
		if !has {
			return
		}
		scale := new(big.Int).Exp(big.NewInt(10), new(big.Int).SetBytes(decimals), nil)
		want := new(big.Rat).SetFrac(new(big.Int).SetBytes(round[32:64]), scale)
		value, ok := new(big.Rat).SetString(p.Value)
		if !ok || value.Sign() <= 0 || value.Cmp(want) != 0 || p.At.Unix() <= 0 ||
			p.At.After(noon().Add(5*time.Minute)) {
			t.Errorf("%x with %x decimals is %s of %s, want %s", round, decimals, p.Value, p.At, want.RatString())
		}
	})
}
