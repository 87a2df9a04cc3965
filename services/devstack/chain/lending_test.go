package chain_test

import (
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"

	"github.com/purserhq/purser/services/devstack/chain"
)

// writeAnswers makes the test of the real contracts write testdata/lending_answers.json anew.
var writeAnswers = flag.Bool("write-answers", false, "write the answers of the real contracts")

// Our pool answers every step of the table as Aave's own contracts have: to the unit, with the same events and the
// same reasons. Their answers are in a file, which TestTheRealLendingPoolGivesTheAnswersOnFile checks.
func TestTheLendingPoolAnswersAsTheRealOneDid(t *testing.T) {
	t.Parallel()
	r := newLendingRun(t)
	r.list(r.deployLending())
	var want []lendingAnswer
	readJSON(t, "lending_answers.json", &want)
	compareAnswers(t, r.run(), want)
}

// compareAnswers reports the differences of the first step that has any.
func compareAnswers(t *testing.T, have, want []lendingAnswer) {
	t.Helper()
	if len(have) != len(want) {
		t.Fatalf("%d answers, want %d", len(have), len(want))
	}
	for i := range have {
		h, w := have[i], want[i]
		if h.Step != w.Step || h.Time != w.Time || h.Refused != w.Refused {
			t.Errorf("%s at %d: refused %q, want %s at %d: %q", h.Step, h.Time, h.Refused, w.Step, w.Time, w.Refused)
		}
		if !slices.Equal(h.Events, w.Events) {
			t.Errorf("%s: events\n%q, want\n%q", h.Step, h.Events, w.Events)
		}
		for read, value := range w.Reads {
			if h.Reads[read] != value {
				t.Errorf("%s: %s is\n%q, want\n%q", h.Step, read, h.Reads[read], value)
			}
		}
		if len(h.Reads) != len(w.Reads) || len(w.Reads) == 0 {
			t.Errorf("%s: %d reads, want %d", h.Step, len(h.Reads), len(w.Reads))
		}
		if t.Failed() {
			return
		}
	}
}

// The answers on file are to the table's steps, and refused where it says so.
func TestTheRealPoolRefusedWhatTheTableSays(t *testing.T) {
	var answers []lendingAnswer
	readJSON(t, "lending_answers.json", &answers)
	for i, s := range readLendingTable(t).Steps {
		if answers[i].Step != s.String() || answers[i].Refused != s.Refused {
			t.Errorf("step %d, %s: on file is %s, refused %q, want %q", i, s, answers[i].Step, answers[i].Refused,
				s.Refused)
		}
		if s.Do == "treasury" {
			continue // which has nothing to mint where nobody has touched the reserve since the interest began
		}
		if quiet := s.Do == "look" || s.Refused != ""; quiet != (len(answers[i].Events) == 0) {
			t.Errorf("step %d, %s: %d events", i, s, len(answers[i].Events))
		}
	}
}

// deployLending makes a pool of our contracts with the table's reserves.
func (r *lendingRun) deployLending() common.Address {
	r.t.Helper()
	oracle := r.deployOracle()
	// The pool is made before what it is told of.
	pool := crypto.CreateAddress(r.users["admin"].Address, r.nonce[r.users["admin"].Address])
	addresses := crypto.CreateAddress(r.users["admin"].Address, r.nonce[r.users["admin"].Address]+1)
	r.make("LendingPool", addresses)
	r.make("LendingAddresses", "test", pool, oracle)
	lending := artifact(r.t, "LendingPool").ABI
	for _, x := range r.table.Reserves {
		asset := token(r.t, r.chain, x.Symbol)
		rates := r.make("LendingRates", percents(x.Optimal), percents(x.Base), percents(x.Slope1), percents(x.Slope2))
		tokens := [4]common.Address{
			r.make("SupplyToken", "a"+x.Symbol, "a"+x.Symbol, pool, asset.Address, r.treasury()),
			r.make("StableDebtToken", "s"+x.Symbol, "s"+x.Symbol, asset.Address),
			r.make("VariableDebtToken", "v"+x.Symbol, "v"+x.Symbol, pool, asset.Address), rates,
		}
		bits := new(big.Int).SetUint64(x.LTV | x.Threshold<<16 | x.Bonus<<32 | uint64(asset.Decimals)<<48 | 5<<56)
		bits.Or(bits, new(big.Int).Lsh(new(big.Int).SetUint64(x.Treasury), 64))
		data, err := lending.Pack("addReserve", asset.Address, tokens, bits)
		if err != nil {
			r.t.Fatal(err)
		}
		r.must("list "+x.Symbol, &pool, data)
	}
	return pool
}

// deployOracle makes the oracle, with the chain's price feeds, of our pool and of the real one.
func (r *lendingRun) deployOracle() common.Address {
	r.t.Helper()
	var assets, feeds []common.Address
	for _, f := range chain.PriceFeeds() {
		if t, ok := r.chain.Token(f.Symbol); ok {
			assets, feeds = append(assets, t.Address), append(feeds, f.Address)
		}
	}
	return r.make("LendingOracle", assets, feeds)
}

// make deploys one of our contracts.
func (r *lendingRun) make(name string, args ...any) common.Address {
	r.t.Helper()
	a := artifact(r.t, name)
	packed, err := a.ABI.Pack("", args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.must(name, nil, append(a.Creation, packed...)).ContractAddress
}

// treasury receives the pool's fees.
func (r *lendingRun) treasury() common.Address {
	treasury := common.Address{0x7e, 19: 1}
	r.names[treasury] = "treasury"
	return treasury
}

// percents has 27 decimals.
func percents(n uint64) *big.Int {
	return new(big.Int).Mul(new(big.Int).SetUint64(n), new(big.Int).Exp(big.NewInt(10), big.NewInt(25), nil))
}

func (r *lendingRun) writeAnswers(answers []lendingAnswer) {
	r.t.Helper()
	text, err := json.MarshalIndent(answers, "", " ")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", "lending_answers.json"), append(text, '\n'), 0o644); err != nil {
		r.t.Fatal(err)
	}
}
