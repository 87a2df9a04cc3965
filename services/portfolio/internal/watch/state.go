package watch

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"slices"
	"strconv"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// State is what a stream tells: a valuation in the rate's currency.
type State struct {
	Valuation valuation.Valuation
	Rate      currency.Rate
}

// cursorBytes is how much of its digest a cursor has.
const cursorBytes = 16

// Cursor returns the digest of a portfolio's state: of everything but times.
func (s State) Cursor(p portfolio.Portfolio) string {
	h := sha256.New()
	write(h, p.ID.String(), s.Rate.Currency)
	if s.Rate.Currency != valuation.Currency {
		write(h, s.Rate.Price, s.Rate.Source, strconv.FormatBool(s.Rate.Stale))
	}
	v := s.Valuation
	write(h, v.Total.Text('f'), strconv.FormatBool(v.Stale), strconv.Itoa(len(v.IncompleteReasons)))
	write(h, v.IncompleteReasons...)
	write(h, strconv.Itoa(len(v.Positions)))
	for _, p := range slices.Concat(v.Positions, v.Receipts) {
		value := ""
		if p.Value != nil {
			value = p.Value.Text('f')
		}
		write(h, p.Place.Protocol, p.Place.Market, string(p.Place.Kind), p.Place.RateMode,
			strconv.FormatBool(p.Place.Collateral))
		write(h, p.TokenID, p.Symbol, strconv.Itoa(int(p.Decimals)), strconv.FormatBool(p.Verified), p.Amount.String(),
			p.Price.Amount, p.Price.Source, strconv.FormatBool(p.Price.Stale), p.Price.UnpricedReason, value)
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:cursorBytes])
}

// write writes texts so that no two lists of them give the same.
func write(h hash.Hash, texts ...string) {
	for _, t := range texts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(t), t)
	}
}

// CheckCursor returns errs.Invalid on the field cursor for a text that can't be one.
func CheckCursor(text string) error {
	if text == "" {
		return nil
	}
	digest, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(digest) != cursorBytes {
		return errs.Invalid("cursor", "must be the cursor of a message of WatchValuation, or empty, "+errs.Given(text))
	}
	return nil
}
