package chain_test

import (
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"

	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/prices"
)

// Each feed has, at each block, the price of the embedded feed at the full hour, and tells it again as a round later.
func TestFeedsOnTheChainHaveThePricesOfTheEmbeddedFeed(t *testing.T) {
	t.Parallel()
	c := shared(t)
	r := dial(t, c)
	feed := artifact(t, "PriceFeed").ABI
	call := func(f chain.PriceFeed, block *big.Int, method string, args ...any) ([]any, error) {
		t.Helper()
		input, err := feed.Pack(method, args...)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := r.CallContract(t.Context(), ethereum.CallMsg{To: &f.Address, Data: input}, block)
		if err != nil {
			return nil, err
		}
		return feed.Unpack(method, raw)
	}
	head := c.Head()
	for _, f := range chain.PriceFeeds() {
		if said, err := call(f, nil, "description"); err != nil || said[0] != f.Symbol+" / USD" {
			t.Fatalf("%s says that it is of %v, %v", f.Symbol, said, err)
		}
		for number := uint64(0); number <= head.Number; number += max(1, head.Number/20) {
			header, err := r.HeaderByNumber(t.Context(), new(big.Int).SetUint64(number))
			if err != nil {
				t.Fatal(err)
			}
			at := time.Unix(int64(header.Time), 0)
			round, err := call(f, header.Number, "latestRoundData")
			if err != nil {
				t.Fatal(err)
			}
			want, _ := prices.PriceAt(f.Symbol, at)
			is := new(big.Rat).SetFrac(round[1].(*big.Int), big.NewInt(100_000_000))
			wanted, ok := new(big.Rat).SetString(want)
			if !ok || is.Cmp(wanted) != 0 || round[3].(*big.Int).Int64() != at.Truncate(time.Hour).Unix() ||
				round[0].(*big.Int).Cmp(round[4].(*big.Int)) != 0 {
				t.Fatalf("%s at %s: %v, want %s", f.Symbol, at, round, want)
			}
			again, err := call(f, nil, "getRoundData", round[0])
			if err != nil || again[1].(*big.Int).Cmp(round[1].(*big.Int)) != 0 {
				t.Fatalf("%s: round %s is %v later, %v", f.Symbol, round[0], again, err)
			}
		}
		future := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 64), big.NewInt(head.Time.Unix()/3600+1))
		for _, id := range []*big.Int{new(big.Int), future} {
			if said, err := call(f, nil, "getRoundData", id); err == nil {
				t.Errorf("%s has a round %s: %v", f.Symbol, id, said)
			}
		}
	}
}
