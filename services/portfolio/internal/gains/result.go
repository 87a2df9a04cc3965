package gains

import (
	"cmp"
	"context"
	"math/big"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Scope is which of a result are wanted.
type Scope struct {
	// Asset, or a token of it; all when empty.
	Asset string
	// Start and End: at or after, and before; zero for no bound.
	Start, End time.Time
}

func (s Scope) has(at time.Time) bool {
	return !at.Before(s.Start) && (s.End.IsZero() || at.Before(s.End))
}

// of are the assets of a scope, in order.
func (r *Result) of(s Scope) []string {
	if s.Asset == "" {
		return r.assets
	}
	asset := r.Options.assets.Of(s.Asset)
	if _, has := r.events[asset]; !has {
		return nil
	}
	return []string{asset}
}

// has reports whether the portfolio has a wallet.
func (r *Result) has(wallet string) bool { return r.wallets == nil || r.wallets[wallet] }

// PartCursor is a place in the list of parts.
type PartCursor struct {
	Asset  string
	Time   time.Time
	Seq    int64
	Number int
}

// Cursor is the place of a part.
func (p *Part) Cursor() PartCursor { return PartCursor{p.Asset, p.Time, p.seq, p.Number} }

func (c PartCursor) compare(o PartCursor) int {
	return cmp.Or(strings.Compare(c.Asset, o.Asset), c.Time.Compare(o.Time), cmp.Compare(c.Seq, o.Seq),
		cmp.Compare(c.Number, o.Number))
}

// Parts returns up to limit parts of disposals by asset, oldest first, after a place.
func (r *Result) Parts(s Scope, after *PartCursor, limit int) (out []Part) {
	for _, asset := range r.of(s) {
		all := r.parts[asset]
		from := 0
		if after != nil {
			from = sort.Search(len(all), func(i int) bool { return all[i].Cursor().compare(*after) > 0 })
		}
		for i := from; i < len(all) && len(out) < limit; i++ {
			if s.has(all[i].Time) && (all[i].Wallet == "" || r.has(all[i].Wallet)) {
				out = append(out, all[i])
			}
		}
	}
	return out
}

// Priced is an open lot with what it is worth now.
type Priced struct {
	Open
	// Place among the lots of its asset.
	Place int
	// Value and Gain are nil when they aren't known.
	Value, Gain *big.Int
}

// LotCursor is a place in the list of open lots.
type LotCursor struct {
	Asset string
	Lot   string
	Place int
}

// Cursor is the place of a lot.
func (p *Priced) Cursor() LotCursor { return LotCursor{p.Asset, p.Wallet + " " + p.ID, p.Place} }

// Open returns up to limit open lots by asset, after a place: after the lot of the cursor, or where it was.
func (r *Result) Open(s Scope, after *LotCursor, limit int) (out []Priced) {
	for _, asset := range r.of(s) {
		all, from := r.open[asset], 0
		if after != nil && asset < after.Asset {
			continue
		}
		if after != nil && asset == after.Asset {
			from = 1 + slices.IndexFunc(all, func(o Open) bool { return o.Wallet+" "+o.ID == after.Lot })
			if from == 0 {
				from = min(max(0, after.Place), len(all))
			}
		}
		for i := from; i < len(all) && len(out) < limit; i++ {
			if all[i].Wallet == "" && r.wallets == nil || r.has(all[i].Wallet) {
				out = append(out, Priced{Open: all[i], Place: i})
			}
		}
	}
	return out
}

// AddValues sets what open lots are worth now.
func (s *Service) AddValues(ctx context.Context, r *Result, open []Priced) error {
	var tokens []string
	for i := range open {
		if t := open[i].Asset; len(tokens) == 0 || tokens[len(tokens)-1] != t {
			tokens = append(tokens, t)
		}
	}
	slices.Sort(tokens)
	tokens = slices.Compact(tokens)
	if len(tokens) == 0 {
		return nil
	}
	prices, err := s.source.Now(ctx, tokens)
	if err != nil {
		return err
	}
	rate, err := s.rates.Now(ctx, r.Currency)
	if err != nil {
		return err
	}
	for i := range open {
		o := &open[i]
		price := prices[o.Asset]
		t, known := r.Token(o.Asset)
		if !price.Known() || !known {
			continue
		}
		if o.Value, err = worth(o.Quantity, t.Decimals, price.Amount, rate); err != nil {
			return err
		}
		if o.Value != nil && o.Cost != nil {
			o.Gain = new(big.Int).Sub(o.Value, o.Cost)
		}
	}
	return nil
}

// Token returns what is known of an asset.
func (r *Result) Token(asset string) (Token, bool) {
	if t, ok := r.Tokens[asset]; ok {
		return t, true
	}
	for id, of := range r.Options.assets { // the first token never moved
		if t, ok := r.Tokens[id]; ok && of == asset {
			return Token{Symbol: t.Symbol, Decimals: t.Decimals}, true
		}
	}
	return Token{}, false
}

// Money is an amount of units of 10^-8 as a decimal; empty when it isn't known.
func Money(v *big.Int) string {
	if v == nil {
		return ""
	}
	return Decimal(v, valuation.Scale)
}

// Decimal is units of 10^-decimals as a decimal number, exactly.
func Decimal(units *big.Int, decimals uint8) string {
	text := new(big.Int).Abs(units).String()
	if n := int(decimals) + 1 - len(text); n > 0 {
		text = strings.Repeat("0", n) + text
	}
	sign := ""
	if units.Sign() < 0 {
		sign = "-"
	}
	if decimals == 0 {
		return sign + text
	}
	point := len(text) - int(decimals)
	return sign + text[:point] + "." + text[point:]
}
