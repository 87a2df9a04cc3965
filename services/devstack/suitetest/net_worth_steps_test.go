package suitetest

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/devstack/tokenlist"
)

// borrower is one holder who lends and borrows, and the user whose wallet that is.
type borrower struct {
	t      *testing.T
	s      *suite.Suite
	c      *demo.Clients
	node   contracts
	wallet string
	chain.Account
	random *rand.Rand
	// ahead is how far the chain's clock is ahead, in seconds.
	ahead *atomic.Int64
	// done are the steps so far, for a failure.
	done []string
}

// lentAssets are those that the steps are of.
func lentAssets() []string { return []string{"WETH", "USDC", "DAI"} }

// look syncs the wallet at the newest block and values it.
func (b *borrower) look(ctx context.Context) picture {
	b.t.Helper()
	synced, err := b.c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: b.wallet})
	if err != nil {
		b.t.Fatal(err)
	}
	p := picture{block: synced.GetWallet().GetSync().GetBlockNumber(), amounts: map[string]*big.Rat{},
		prices: map[string]*big.Rat{}, indexes: map[string]*big.Rat{}}
	if head := b.s.Chain.Head().Number; p.block != head {
		b.t.Fatalf("synced at block %d, the newest is %d", p.block, head)
	}
	answer, err := b.c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		b.t.Fatal(err)
	}
	v := answer.GetValuation()
	if !v.GetComplete() || v.GetUnpricedCount() != 0 || v.GetUnverifiedCount() != 0 {
		b.t.Fatalf("the valuation lacks something: %v", v)
	}
	p.total, p.assets, p.liabilities = rat(b.t, v.GetTotal()), rat(b.t, v.GetAssets()), rat(b.t, v.GetLiabilities())
	p.receipts = len(v.GetReceipts())
	for _, x := range v.GetPositions() {
		unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(x.GetDecimals())), nil)
		kind := strings.TrimPrefix(x.GetKind().String(), "HOLDING_KIND_")
		p.amounts[kind+" "+x.GetSymbol()] = rat(b.t, x.GetAmount())
		p.prices[x.GetSymbol()] = new(big.Rat).Quo(rat(b.t, x.GetPrice()), new(big.Rat).SetInt(unit))
		p.lines++
	}
	for _, symbol := range lentAssets() {
		for kind, method := range map[string]string{"SUPPLIED": "getReserveNormalizedIncome",
			"BORROWED": "getReserveNormalizedVariableDebt"} {
			index := b.node.call("LendingPool", b.pool(), p.block, method, b.token(symbol).Address)[0].(*big.Int)
			p.indexes[kind+" "+symbol] = new(big.Rat).SetInt(index)
		}
	}
	return p
}

func (b *borrower) pool() common.Address {
	m, ok := b.s.Chain.Market(chain.LendingPoolName)
	if !ok {
		b.t.Fatal("no lending pool")
	}
	return m.Address
}

func (b *borrower) token(symbol string) chain.Token {
	token, ok := b.s.Chain.Token(symbol)
	if !ok {
		b.t.Fatalf("no %s", symbol)
	}
	return token
}

// mine makes a block of what was sent and returns the fees that the borrower paid in it, in wei, and whether the
// transaction succeeded.
func (b *borrower) mine(hash common.Hash) (fees *big.Rat, ok bool) {
	b.t.Helper()
	b.ahead.Add(1 + b.random.Int64N(5))
	if err := b.s.Chain.Mine(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	receipts, err := b.node.BlockReceipts(b.t.Context(),
		rpc.BlockNumberOrHashWithNumber(rpc.BlockNumber(b.s.Chain.Head().Number)))
	if err != nil {
		b.t.Fatal(err)
	}
	fees = new(big.Rat)
	for _, r := range receipts { // all are of the borrower: nobody else sends anything
		gas := new(big.Int).Mul(r.EffectiveGasPrice, new(big.Int).SetUint64(r.GasUsed))
		fees.Add(fees, new(big.Rat).SetInt(gas))
		if r.TxHash == hash {
			ok = r.Status == types.ReceiptStatusSuccessful
		}
	}
	return fees, ok
}

// carryOut sends a step and mines it.
func (b *borrower) carryOut(x borrowStep) (fees *big.Rat, ok bool) {
	b.t.Helper()
	send := map[string]func(context.Context, chain.Account, common.Address, *uint256.Int) (common.Hash, error){
		"supply": b.s.Chain.Supply, "withdraw": b.s.Chain.Withdraw, "borrow": b.s.Chain.Borrow,
		"repay": b.s.Chain.Repay}[x.do]
	hash, err := send(b.t.Context(), b.Account, b.token(x.symbol).Address, x.amount)
	if err != nil {
		b.t.Fatal(err)
	}
	fees, ok = b.mine(hash)
	b.done = append(b.done, fmt.Sprintf("%s %s %s: %t", x.do, x.amount.Dec(), x.symbol, ok))
	return fees, ok
}

// draw is a random step from where the borrower is: mostly a part of what could be moved, and now and then a single
// base unit, all of it, or more than there is, which the pool refuses or takes for all.
func (b *borrower) draw(now picture) borrowStep {
	b.t.Helper()
	x := borrowStep{do: []string{"supply", "withdraw", "borrow", "repay"}[b.random.IntN(4)],
		symbol: lentAssets()[b.random.IntN(len(lentAssets()))]}
	limit := b.limit(now, x)
	switch b.random.IntN(10) {
	case 0:
		x.amount = uint256.NewInt(1)
	case 1:
		x.amount = new(uint256.Int).AddUint64(new(uint256.Int).Lsh(limit, 1), 1)
	case 2:
		x.amount = limit
		if x.do == "withdraw" || x.do == "repay" {
			x.amount = new(uint256.Int).SetAllOne()
		}
	default:
		x.amount = b.part(limit)
	}
	return x
}

// part is a random part of an amount, of any size; at least 1.
func (b *borrower) part(of *uint256.Int) *uint256.Int {
	const scale = 1 << 20
	part := new(uint256.Int).Mul(of, uint256.NewInt(b.random.Uint64N(scale)))
	part.Rsh(part, 20+uint(b.random.IntN(12)))
	return part.AddUint64(part, 1)
}

// limit is about how much of a step is possible.
func (b *borrower) limit(now picture, x borrowStep) *uint256.Int {
	b.t.Helper()
	whole := func(r *big.Rat) *uint256.Int {
		if r == nil {
			return new(uint256.Int)
		}
		return uint256.MustFromBig(new(big.Int).Quo(r.Num(), r.Denom()))
	}
	switch x.do {
	case "supply":
		return whole(now.amounts["WALLET "+x.symbol])
	case "withdraw":
		return whole(now.amounts["SUPPLIED "+x.symbol])
	case "repay":
		return whole(now.amounts["BORROWED "+x.symbol])
	}
	account := b.node.call("LendingPool", b.pool(), now.block, "getUserAccountData", b.Address)
	dollars := new(big.Rat).SetFrac(account[2].(*big.Int), big.NewInt(1e8))
	return whole(dollars.Quo(dollars, now.prices[x.symbol]))
}

// Nobody becomes richer or poorer by a deposit, a loan, a repayment or a withdrawal: net worth after it is that of
// before, less the fees, with the interest of the seconds between, but for rounding of less than a thousandth of a
// cent; and what is owed is what was owed, with interest, and what the step has changed. So too when the pool refuses
// the step.
func TestAStepInALendingPoolChangesNetWorthByFeesAlone(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	// All of it is in one hour of the chain: at the next one the plan has transfers, and prices change. It takes up to
	// 27 minutes there, and the newest block must stay younger than an hour for wallet.
	anchor := time.Now().Truncate(time.Hour).Add(time.Minute)
	if time.Since(anchor) > 30*time.Minute {
		anchor = anchor.Add(30 * time.Minute)
	}
	var dir string
	s := start(t, func(o *suite.Options) {
		dir = o.Dir
		o.Defi, o.History = true, 6*time.Hour
		o.Now = func() time.Time { return anchor.Add(time.Duration(ahead.Load()) * time.Second) }
		o.Extra = map[string][]string{"auth": {"PURSER_ATTEMPTS_PER_ADDRESS=10000"},
			"wallet": {"PURSER_GRPC_RATE_PER_SECOND=10000", "PURSER_GRPC_BURST=10000"},
			"portfolio": {"PURSER_GRPC_RATE_PER_SECOND=10000", "PURSER_GRPC_BURST=10000",
				"PURSER_CACHE_VALUATION_TTL=0"}} // a valuation may be of before the step by so much
	})
	c := dial(t, s.Endpoints)
	node, err := ethclient.Dial(s.Chain.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	listReceipts(t, s, dir, contracts{node, t})
	seen := map[string]int{}
	for round := range testkit.Size(2, 40) {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("round %d, seed %d", round, seed), func(t *testing.T) {
			b := &borrower{t: t, s: s, c: c, node: contracts{node, t}, ahead: &ahead,
				Account: s.Chain.Cast().Others[round%4], random: rand.New(rand.NewPCG(seed, 0))}
			b.run(seen)
			if t.Failed() {
				t.Logf("the steps of seed %d:\n%s", seed, strings.Join(b.done, "\n"))
			}
		})
	}
	for _, what := range []string{"supply", "withdraw", "borrow", "repay", "refused", "receipts",
		"counted twice off", "without debts off"} {
		if seen[what] == 0 {
			t.Errorf("there is no step with %q: %v", what, seen)
		}
	}
}

// run carries out one sequence. It counts in seen what has succeeded or was refused, and where the controls were off.
func (b *borrower) run(seen map[string]int) {
	b.t.Helper()
	b.fund()
	ctx, _ := signIn(b.t, b.c)
	b.wallet = addWallet(b.t, ctx, b.c, account(b.s, b.Address)).GetId()
	now := b.look(ctx)
	for i := range 8 {
		x := b.draw(now)
		switch i { // each kind succeeds and one is refused, also in few sequences
		case 0:
			x = borrowStep{"supply", "WETH", tokensOf(1+b.random.Uint64N(20), 18)}
		case 1:
			x = borrowStep{"borrow", "USDC", tokensOf(50+b.random.Uint64N(500), 6)}
		case 2:
			x = borrowStep{"repay", "USDC", tokensOf(1+b.random.Uint64N(40), 6)}
		case 3:
			x = borrowStep{"withdraw", "WETH", b.part(tokensOf(1, 17))}
		case 4:
			x = borrowStep{do: "borrow", symbol: "DAI"}
			x.amount = b.limit(now, x)
			x.amount.AddUint64(x.amount.Lsh(x.amount, 1), 1)
		}
		fees, ok := b.carryOut(x)
		next := b.look(ctx)
		twice, unowed := b.checkStep(now, next, x, fees, ok)
		now = next
		for what, is := range map[string]bool{x.do: ok, "refused": !ok, "receipts": now.receipts > 1,
			"counted twice off": twice, "without debts off": unowed} {
			if is {
				seen[what]++
			}
		}
	}
}

// listReceipts has wallet start again with a token list that has the tokens of supplies and debts too, so that they
// are among what wallets hold.
func listReceipts(t *testing.T, s *suite.Suite, dir string, node contracts) {
	t.Helper()
	pool, ok := s.Chain.Market(chain.LendingPoolName)
	if !ok {
		t.Fatal("no lending pool")
	}
	tokens := s.Chain.Tokens()
	for _, token := range s.Chain.Tokens() {
		if !slices.Contains(lentAssets(), token.Symbol) {
			continue
		}
		data := reflect.ValueOf(node.call("LendingPool", pool.Address, s.Chain.Head().Number, "getReserveData",
			token.Address)[0])
		for name, field := range map[string]string{"supplied": "ATokenAddress",
			"borrowed": "VariableDebtTokenAddress"} {
			receipt := token
			receipt.Symbol, receipt.Name = name+token.Symbol, name+" "+token.Name
			receipt.Address = data.FieldByName(field).Interface().(common.Address)
			tokens = append(tokens, receipt)
		}
	}
	list, err := tokenlist.New(s.Chain.ChainID(), s.Chain.Head().Time, tokens).JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.StopService("wallet"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokens.json"), list, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.RestartService(t.Context(), "wallet"); err != nil {
		t.Fatal(err)
	}
}

// fund gives the borrower ether and what can be lent.
func (b *borrower) fund() {
	b.t.Helper()
	give := func(asset common.Address, amount *uint256.Int) {
		if _, err := b.s.Chain.Fund(b.t.Context(), b.Address, asset, amount); err != nil {
			b.t.Fatal(err)
		}
	}
	give(chain.Native(), tokensOf(2, 18))
	for symbol, whole := range map[string]uint64{"WETH": 25, "USDC": 40_000, "DAI": 30_000} {
		give(b.token(symbol).Address, tokensOf(whole, b.token(symbol).Decimals))
	}
	b.mine(common.Hash{})
}

func tokensOf(whole uint64, decimals uint8) *uint256.Int {
	unit := new(uint256.Int).Exp(uint256.NewInt(10), uint256.NewInt(uint64(decimals)))
	return unit.Mul(unit, uint256.NewInt(whole))
}
