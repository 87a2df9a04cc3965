// Package allocation divides the value of a portfolio: by token, chain, wallet or protocol.
//
// It promises:
//   - Values are exact sums of rounded values, and no float is used.
//   - The entries divide what is owned. What is owed is divided apart from it, with shares of
//     its own, so that no share is negative.
//   - The shares of all entries sum to exactly 1: each is rounded down to ShareScale
//     decimals, and what is left goes to the entries that lost most by that, one unit each
//     (the largest remainder method); of equal ones to the more valuable.
//   - What has no price, or isn't verified, is listed apart.
package allocation

import (
	"cmp"
	"context"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// ShareScale is the number of decimals of shares.
const ShareScale = 8

// Dimension is what a value is divided by.
type Dimension int

// The dimensions.
const (
	Token Dimension = iota + 1
	Chain
	Wallet // of now only
	Protocol
)

// Key and label of what isn't an entry of its own.
const (
	inWallet = "wallet"
	other    = "other"
)

// Entry is a part of a value.
type Entry struct {
	Key, Label string
	Amount     *big.Int // by token only, in base units
	Decimals   uint8
	Value      *apd.Decimal
	Share      *apd.Decimal // nil if the total is 0
	Count      int          // holdings; of Other, entries
	Other      bool
}

// Uncounted is a holding that is in no entry.
type Uncounted struct {
	valuation.Position
	Account string // by wallet only
}

// Allocation is what a value consists of.
type Allocation struct {
	Of valuation.Valuation
	// Total is Assets less Liabilities, the sums of the values of Entries and of Debts.
	Total, Assets, Liabilities *apd.Decimal
	Entries                    []Entry
	// Debts have values that are not below 0.
	Debts     []Entry
	Uncounted []Uncounted
}

// Request is how to divide which value.
type Request struct {
	Dimension  Dimension // Token when 0
	At         time.Time // now when zero
	MaxEntries int       // 0 for all
	Currency   string    // of the values; USD when empty
}

// Valuer values portfolios; *portfolio.Service implements it.
type Valuer interface {
	ValueOrLastSnapshot(ctx context.Context, p portfolio.Portfolio) (valuation.Valuation, error)
	ValueAt(ctx context.Context, p portfolio.Portfolio, at time.Time) (valuation.Valuation, error)
	CheckAsOf(at time.Time) error
	ValueWallets(ctx context.Context, p portfolio.Portfolio) ([]portfolio.WalletValue, error)
}

// Rates are those of currencies and tokens; *currency.Service implements it.
type Rates interface {
	// Of returns the rate that a valuation is converted at. It returns errs.Invalid on currency for what is none,
	// errs.Unavailable (RATE_UNAVAILABLE).
	Of(ctx context.Context, currency string, v valuation.Valuation, isSnapshot bool) (currency.Rate, error)
	// Known returns the rates of the hours that these times are in, which are in order, also those that aren't known.
	Known(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
}

// Service divides values. It is safe for concurrent use.
type Service struct {
	valuer Valuer
	store  Store
	rates  Rates
	now    func() time.Time
}

// NewService returns the service.
func NewService(v Valuer, s Store, r Rates, now func() time.Time) *Service {
	return &Service{valuer: v, store: s, rates: r, now: now}
}

// Check returns errs.Invalid for a request that breaks a rule.
func (s *Service) Check(r Request) error {
	var timeErr error
	switch {
	case r.At.IsZero():
	case r.Dimension == Wallet:
		timeErr = errs.Invalid("as_of_time", "must be unset with ALLOCATION_DIMENSION_WALLET: the positions of the "+
			"past are stored for the portfolio as a whole. By token and by chain the past is there")
	default:
		timeErr = s.valuer.CheckAsOf(r.At)
	}
	return errs.AllInvalid(timeErr, currency.Check("currency", r.Currency))
}

// Allocate divides the value of a portfolio.
func (s *Service) Allocate(ctx context.Context, p portfolio.Portfolio, r Request) (Allocation, error) {
	if err := s.Check(r); err != nil {
		return Allocation{}, err
	}
	if r.Dimension == Wallet {
		return s.allocateByWallet(ctx, p, r)
	}
	value := s.valuer.ValueOrLastSnapshot
	if !r.At.IsZero() {
		value = func(ctx context.Context, p portfolio.Portfolio) (valuation.Valuation, error) {
			return s.valuer.ValueAt(ctx, p, r.At)
		}
	}
	v, err := value(ctx, p)
	if err != nil {
		return Allocation{}, err
	}
	rate, err := s.rates.Of(ctx, r.Currency, v, !r.At.IsZero())
	if err != nil {
		return Allocation{}, err
	}
	if v, err = rate.Valuation(v); err != nil {
		return Allocation{}, errs.Internal(err)
	}
	d := divided{dimension: r.Dimension}
	d.add(v.Positions, "")
	return d.result(v, r.MaxEntries)
}

// allocateByWallet divides the value of now by wallet.
func (s *Service) allocateByWallet(ctx context.Context, p portfolio.Portfolio, r Request) (Allocation, error) {
	wallets, err := s.valuer.ValueWallets(ctx, p)
	if err != nil {
		return Allocation{}, err
	}
	rate, err := s.rates.Of(ctx, r.Currency, valuation.Valuation{}, false)
	if err != nil {
		return Allocation{}, err
	}
	d := divided{dimension: Wallet}
	var all valuation.Valuation
	for _, w := range wallets {
		d.assets.entry(w.Account, w.Account) // also one that holds nothing
		v, err := rate.Valuation(w.Valuation)
		if err != nil {
			return Allocation{}, errs.Internal(err)
		}
		d.add(v.Positions, w.Account)
		all.ValuationTime = v.ValuationTime
		all.IncompleteReasons = append(all.IncompleteReasons, v.IncompleteReasons...)
	}
	slices.Sort(all.IncompleteReasons)
	all.IncompleteReasons = slices.Compact(all.IncompleteReasons)
	if len(wallets) == 0 {
		all.ValuationTime = s.now().UTC()
	}
	return d.result(all, r.MaxEntries)
}

// divided is a value that is being divided.
type divided struct {
	dimension     Dimension
	assets, debts parts
	uncounted     []Uncounted
	err           error
}

// parts are entries by their keys.
type parts struct {
	index   map[string]int
	entries []Entry
}

func (d *parts) entry(key, label string) *Entry {
	if d.index == nil {
		d.index = map[string]int{}
	}
	i, ok := d.index[key]
	if !ok {
		i = len(d.entries)
		d.index[key] = i
		d.entries = append(d.entries, Entry{Key: key, Label: label, Value: new(apd.Decimal)})
	}
	return &d.entries[i]
}

func (d *divided) add(positions []valuation.Position, account string) {
	for _, p := range positions {
		if p.Amount.Sign() == 0 {
			continue
		}
		if !p.Counted() {
			d.uncounted = append(d.uncounted, Uncounted{Position: p, Account: account})
			continue
		}
		key, label := keyOf(d.dimension, p, account)
		to, value := &d.assets, p.Value
		if p.Place.Owed() {
			to, value = &d.debts, new(apd.Decimal).Abs(p.Value)
		}
		e := to.entry(key, label)
		e.Count++
		if d.dimension <= Token {
			e.add(p)
		}
		var err error
		if e.Value, err = valuation.Sum(e.Value, value); err != nil && d.err == nil {
			d.err = errs.Internal(err)
		}
	}
}

// add adds the amount of a position of the entry's token.
func (e *Entry) add(p valuation.Position) {
	if e.Amount == nil {
		e.Amount = new(big.Int)
	}
	e.Amount.Add(e.Amount, p.Amount)
	e.Decimals = p.Decimals
}

func keyOf(d Dimension, p valuation.Position, account string) (key, label string) {
	switch d {
	case Chain:
		chain, _, _ := strings.Cut(p.TokenID, "/")
		return chain, chain
	case Wallet:
		return account, account
	case Protocol:
		protocol := cmp.Or(p.Place.Protocol, inWallet)
		return protocol, protocol
	default:
		return p.TokenID, p.Symbol
	}
}

// result sorts the entries, folds those beyond maxEntries into one, and sets the shares.
func (d *divided) result(of valuation.Valuation, maxEntries int) (Allocation, error) {
	if d.err != nil {
		return Allocation{}, d.err
	}
	a := Allocation{Of: of, Uncounted: d.uncounted}
	var err error
	if a.Entries, a.Assets, err = d.assets.result(maxEntries); err != nil {
		return Allocation{}, errs.Internal(err)
	}
	if a.Debts, a.Liabilities, err = d.debts.result(maxEntries); err != nil {
		return Allocation{}, errs.Internal(err)
	}
	if a.Total, err = valuation.Subtract(a.Assets, a.Liabilities); err != nil {
		return Allocation{}, errs.Internal(err)
	}
	return a, nil
}

// result returns the entries with their shares, and the sum of their values.
func (d *parts) result(maxEntries int) (entries []Entry, total *apd.Decimal, err error) {
	slices.SortFunc(d.entries, byValue)
	if entries, err = fold(d.entries, maxEntries); err != nil {
		return nil, nil, err
	}
	total = new(apd.Decimal)
	values := make([]*apd.Decimal, len(entries))
	for i, e := range entries {
		values[i] = e.Value
		if total, err = valuation.Sum(total, e.Value); err != nil {
			return nil, nil, err
		}
	}
	for i, share := range Shares(values) {
		entries[i].Share = share
	}
	return entries, total, nil
}

func byValue(a, b Entry) int {
	return cmp.Or(b.Value.Cmp(a.Value), cmp.Compare(a.Key, b.Key))
}

// fold makes one entry of those beyond the largest.
func fold(entries []Entry, maxEntries int) ([]Entry, error) {
	if maxEntries == 0 || len(entries) <= maxEntries {
		return entries, nil
	}
	rest := Entry{Label: other, Value: new(apd.Decimal), Other: true, Count: len(entries) - maxEntries}
	for _, e := range entries[maxEntries:] {
		var err error
		if rest.Value, err = valuation.Sum(rest.Value, e.Value); err != nil {
			return nil, err
		}
	}
	return append(slices.Clip(entries[:maxEntries]), rest), nil
}

// Shares returns the share of each value in their sum; nil if that is 0. Values are not below 0.
func Shares(values []*apd.Decimal) []*apd.Decimal {
	total := new(big.Int)
	scaled := make([]*big.Int, len(values))
	for i, v := range values {
		scaled[i] = inUnits(v)
		total.Add(total, scaled[i])
	}
	if total.Sign() == 0 {
		return nil
	}
	one := new(big.Int).Exp(big.NewInt(10), big.NewInt(ShareScale), nil)
	left := new(big.Int).Set(one)
	units, remainders := make([]*big.Int, len(values)), make([]*big.Int, len(values))
	order := make([]int, len(values))
	for i, v := range scaled {
		units[i], remainders[i] = new(big.Int).QuoRem(new(big.Int).Mul(v, one), total, new(big.Int))
		left.Sub(left, units[i])
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Or(remainders[j].Cmp(remainders[i]), scaled[j].Cmp(scaled[i]))
	})
	for _, i := range order[:left.Int64()] { // less than there are values
		units[i].Add(units[i], big.NewInt(1))
	}
	out := make([]*apd.Decimal, len(values))
	for i, n := range units {
		out[i] = apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(n), -ShareScale)
	}
	return out
}

// inUnits returns a value in units of its last decimal, the same for all.
func inUnits(v *apd.Decimal) *big.Int {
	n := v.Coeff.MathBigInt()
	if shift := int64(v.Exponent) + valuation.Scale; shift > 0 {
		n.Mul(n, new(big.Int).Exp(big.NewInt(10), big.NewInt(shift), nil))
	}
	return n
}
