package chain

import (
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
)

// Move is one transfer of the plan.
type Move struct {
	// At is the time of the block that carries the move.
	At time.Time
	// From and To are the accounts; From is zero where a token's supply is minted.
	From, To common.Address
	// Asset is the token's address, or Native().
	Asset common.Address
	// Amount is in base units.
	Amount *uint256.Int
}

// Plan is the generated activity of the chain: a step every Every, from the genesis time on and without
// end. It is a pure function of its three fields, without the EVM. A Plan is safe for concurrent use.
type Plan struct {
	// Start is the time of the genesis block, which is step 0 and has no moves.
	Start time.Time
	// Every is the time between two steps.
	Every time.Duration
	// Seed picks the moves.
	Seed uint64
}

// drainStep is the step at which Bob sends away all of his LINK.
const drainStep = 36

// At is the time of a step.
func (p Plan) At(step int) time.Time {
	return p.Start.Add(time.Duration(step) * p.Every)
}

// Steps is the number of steps whose time is at or before t, not counting step 0.
func (p Plan) Steps(t time.Time) int {
	if t.Before(p.Start) {
		return 0
	}
	return int(t.Sub(p.Start) / p.Every)
}

// Moves returns every move at or before t, oldest first.
func (p Plan) Moves(t time.Time) []Move {
	var moves []Move
	book := newLedger()
	for step := 1; step <= p.Steps(t); step++ {
		moves = append(moves, p.step(step, book)...)
	}
	return moves
}

// Balance returns holder's balance of asset (a token's address, or Native()) after every step at or before
// t, in base units. Ether balances include the fees of holder's own moves. Transfers outside the plan, by
// Fund, Send or a raw transaction, are not included, nor is the Deployer's ether.
func (p Plan) Balance(holder, asset common.Address, t time.Time) *uint256.Int {
	book := newLedger()
	for step := 1; step <= p.Steps(t); step++ {
		p.step(step, book)
	}
	return new(uint256.Int).Set(book.balance(holder, asset))
}

// step returns the moves of one step and applies them to book, which must contain all steps before it.
func (p Plan) step(step int, book *ledger) []Move {
	s := &stepPlan{cast: book.cast, tokens: book.tokens, book: book, at: p.At(step)}
	switch step {
	case 1:
		s.mint()
		s.open()
	case drainStep:
		s.drain()
	default:
		s.trade(s.cast.Alice, s.cast.Bob, newRandom(p.Seed, step, 0))
		s.trade(s.cast.Bob, s.cast.Alice, newRandom(p.Seed, step, 1))
	}
	return s.moves
}

// stepPlan collects the moves of one step.
type stepPlan struct {
	cast   Cast
	tokens map[string]Token
	book   *ledger
	at     time.Time
	moves  []Move
}

func (s *stepPlan) move(from, to common.Address, asset common.Address, amount *uint256.Int) {
	m := Move{At: s.at, From: from, To: to, Asset: asset, Amount: amount}
	s.book.apply(m)
	s.moves = append(s.moves, m)
}

// mint creates the tokens.
func (s *stepPlan) mint() {
	for _, t := range SeededTokens() {
		holder := s.cast.Treasury.Address
		if !t.Verified {
			holder = s.cast.Vault.Address
		}
		s.move(common.Address{}, holder, t.Address, t.Supply)
	}
}

// open gives the faucet a hundredth of each token, the demo holders their opening balances, and the vault
// ether for fees.
func (s *stepPlan) open() {
	treasury := s.cast.Treasury.Address
	for _, t := range SeededTokens() {
		if t.Verified {
			share := new(uint256.Int).Div(t.Supply, uint256.NewInt(100))
			s.move(treasury, s.cast.Faucet.Address, t.Address, share)
		}
	}
	for _, holder := range []Account{s.cast.Alice, s.cast.Bob} {
		for _, a := range s.assets(holder) {
			s.move(treasury, holder.Address, a.address, a.opening)
		}
	}
	s.move(treasury, s.cast.Bob.Address, s.tokens["LINK"].Address, units(400, 18))
	s.move(treasury, s.cast.Vault.Address, Native(), units(1, 18))
}

// drain sends away all of Bob's LINK. He never receives any again.
func (s *stepPlan) drain() {
	link := s.tokens["LINK"].Address
	all := new(uint256.Int).Set(s.book.balance(s.cast.Bob.Address, link))
	s.move(s.cast.Bob.Address, s.cast.Treasury.Address, link, all)
}

// trade makes at most one move in or out of holder.
func (s *stepPlan) trade(holder, friend Account, d *random) {
	assets := s.assets(holder)
	a := assets[d.below(uint64(len(assets)))]
	switch kind := d.below(100); {
	case kind < 30:
		s.move(s.cast.Treasury.Address, holder.Address, a.address, d.upTo(a.maxMove))
	case kind < 55:
		to := s.cast.Others[d.below(uint64(len(s.cast.Others)))]
		s.moveOut(holder, to, a, d)
	case kind < 60:
		s.moveOut(holder, friend, s.shared(d), d)
	}
}

// moveOut sends at most an eighth of holder's balance, so that it never reaches zero.
func (s *stepPlan) moveOut(holder, to Account, a asset, d *random) {
	limit := new(uint256.Int).Rsh(s.book.balance(holder.Address, a.address), 3)
	if limit.Gt(a.maxMove) {
		limit.Set(a.maxMove)
	}
	if limit.IsZero() {
		return
	}
	s.move(holder.Address, to.Address, a.address, d.upTo(limit))
}

// asset is a token or ether that a demo holder trades.
type asset struct {
	address          common.Address
	opening, maxMove *uint256.Int
}

func (s *stepPlan) assets(holder Account) []asset {
	eth := asset{Native(), units(12, 18), units(1, 18)}
	usdc := asset{s.tokens["USDC"].Address, units(25_000, 6), units(4_000, 6)}
	if holder.Address == s.cast.Alice.Address {
		return []asset{
			eth, usdc,
			{s.tokens["WETH"].Address, units(20, 18), units(2, 18)},
			{s.tokens["WBTC"].Address, units(1, 8), units(1, 7)},
			{s.tokens["LINK"].Address, units(900, 18), units(120, 18)},
		}
	}
	return []asset{eth, usdc, {s.tokens["DAI"].Address, units(40_000, 18), units(3_000, 18)}}
}

// shared picks an asset that both demo holders trade: ether or USDC.
func (s *stepPlan) shared(d *random) asset {
	return s.assets(s.cast.Bob)[d.below(2)]
}
