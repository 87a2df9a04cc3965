// Package export writes snapshots as files: CSV, JSON lines and XLSX.
//
// It promises, since spreadsheets change what they read without a word:
//   - Rows are the oldest first, and times are UTC.
//   - Ids have a prefix, and the exact amount in base units has one too ("base:"), so that
//     none is read as a number.
//   - A number has at least four decimals or none: exactly three would be thousands in
//     several languages. In CSV it has all of its digits.
//   - Text that came from outside begins with an apostrophe in CSV if it has a digit, or begins
//     like a formula: so none is read as a formula, number, date or time. Numbers don't. So does
//     what follows a separator in it that is not the file's own, if it begins like a formula.
//   - In XLSX a number is rounded to the 15 digits that a spreadsheet keeps; beside it is the
//     exact one as text.
//   - Memory doesn't grow with the number of rows, but of XLSX, whose rows are limited.
package export

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Format is the form of a file.
type Format int

// The formats.
const (
	CSV          Format = iota + 1
	CSVSemicolon        // with decimal commas
	JSONLines
	XLSX
)

// Limits.
const (
	// MaxSheetRows is how many rows an XLSX file has at most: it is in memory until it is whole.
	MaxSheetRows  = 50_000
	maxRangeYears = 10
	// pageHours and pagePositions are how much is read at once; one hour can have more positions.
	pageHours     = 500
	pagePositions = 5000
)

// Request is what to export.
type Request struct {
	Format     Format    // CSV when 0
	Positions  bool      // a row is a position; otherwise a snapshot
	Start, End time.Time // timeline.DefaultRange before End when zero; now when zero
	Currency   string    // of prices and values; USD when empty
}

// Store reads snapshots.
type Store interface {
	// CountRows returns how many snapshots there are from start to before end, and how many positions those have.
	CountRows(ctx context.Context, portfolio uuid.UUID, start, end time.Time) (hours, positions int, err error)
	// ListForward returns up to limit snapshots from start to before end, oldest first.
	ListForward(ctx context.Context, portfolio uuid.UUID, start, end time.Time, limit int) ([]snapshot.Snapshot, error)
	// PositionsAt returns the valued positions of the snapshots of some hours.
	PositionsAt(ctx context.Context, portfolio uuid.UUID, buckets []time.Time) (map[time.Time][]valuation.Position,
		error)
}

// Rates are those of currencies and tokens; *currency.Service implements it.
type Rates interface {
	// Known returns the rates of the hours that these times are in, which are in order, also those that aren't known.
	// It returns errs.Invalid on currency for what is none.
	Known(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
}

// Service exports snapshots. It is safe for concurrent use.
type Service struct {
	store Store
	rates Rates
	now   func() time.Time
}

// NewService returns the service.
func NewService(s Store, r Rates, now func() time.Time) *Service {
	return &Service{store: s, rates: r, now: now}
}

// Check returns errs.Invalid with every mistake in a request.
func (s *Service) Check(r Request) error {
	_, err := s.withDefaults(r)
	return err
}

func (s *Service) withDefaults(r Request) (Request, error) {
	now := s.now()
	if r.End.IsZero() {
		r.End = now
	}
	if r.Start.IsZero() {
		r.Start = r.End.Add(-timeline.DefaultRange)
	}
	if r.Format == 0 {
		r.Format = CSV
	}
	rules := timerange.Rules{Now: now, Skew: timerange.ClockSkew, MaxYears: maxRangeYears}
	return r, errs.AllInvalid((timerange.Range{Start: r.Start, End: r.End}).Check(rules),
		currency.Check("currency", r.Currency))
}

// Write writes the file to out, and returns how many rows it has, the header excepted. It returns errs.Invalid for a
// request that breaks a rule, errs.FailedPrecondition (TOO_MANY_ROWS), or out's error.
func (s *Service) Write(ctx context.Context, p portfolio.Portfolio, r Request, out io.Writer) (rows int, err error) {
	if r, err = s.withDefaults(r); err != nil {
		return 0, err
	}
	if r.Format == XLSX {
		if err := s.checkRows(ctx, p, r); err != nil {
			return 0, err
		}
	}
	columns := hourColumns
	if r.Positions {
		columns = positionColumns
	}
	w, err := newWriter(r.Format, out, columns)
	if err != nil {
		return 0, err
	}
	defer w.discard()
	for start := r.Start; ; {
		page, err := s.store.ListForward(ctx, p.ID, start, r.End, pageHours)
		if err != nil {
			return rows, err
		}
		rates, err := s.ratesOf(ctx, r.Currency, page)
		if err != nil {
			return rows, err
		}
		n, err := s.writePage(ctx, p, r, page, rates, w)
		rows += n
		if err != nil {
			return rows, err
		}
		if len(page) < pageHours {
			return rows, w.finish()
		}
		start = page[len(page)-1].Bucket.Add(time.Hour)
	}
}

func (s *Service) checkRows(ctx context.Context, p portfolio.Portfolio, r Request) error {
	rows, positions, err := s.store.CountRows(ctx, p.ID, r.Start, r.End)
	if err != nil {
		return err
	}
	if r.Positions {
		rows = positions
	}
	if rows > MaxSheetRows {
		return errs.FailedPrecondition("TOO_MANY_ROWS", fmt.Sprintf("the range has %d rows, and an XLSX file has at "+
			"most %d: ask for a shorter range, or for CSV", rows, MaxSheetRows))
	}
	return nil
}

func (s *Service) ratesOf(ctx context.Context, code string, page []snapshot.Snapshot) ([]currency.Rate, error) {
	hours := make([]time.Time, len(page))
	for i, snap := range page {
		hours[i] = snap.Bucket
	}
	return s.rates.Known(ctx, code, hours...)
}

// writePage writes the rows of some snapshots, at their rates.
func (s *Service) writePage(ctx context.Context, p portfolio.Portfolio, r Request, page []snapshot.Snapshot,
	rates []currency.Rate, w rowWriter) (rows int, err error) {
	if !r.Positions {
		for i, snap := range page {
			if snap, err = snap.In(rates[i]); err != nil {
				return rows, errs.Internal(err)
			}
			cells, err := hourRow(snap, rates[i])
			if err != nil {
				return rows, errs.Internal(err)
			}
			if err := w.row(cells); err != nil {
				return rows, err
			}
			rows++
		}
		return rows, nil
	}
	for len(page) > 0 {
		n, positions := 1, page[0].Positions
		for n < len(page) && positions+page[n].Positions <= pagePositions {
			positions += page[n].Positions
			n++
		}
		buckets := make([]time.Time, n)
		for i, snap := range page[:n] {
			buckets[i] = snap.Bucket
		}
		held, err := s.store.PositionsAt(ctx, p.ID, buckets)
		if err != nil {
			return rows, err
		}
		for i, snap := range page[:n] {
			positions, err := inRate(snap, held[snap.Bucket], rates[i])
			if err != nil {
				return rows, errs.Internal(err)
			}
			for _, position := range positions {
				if err := w.row(positionRow(snap, position, rates[i])); err != nil {
					return rows, err
				}
				rows++
			}
		}
		page, rates = page[n:], rates[n:]
	}
	return rows, nil
}

// inRate returns the positions of a snapshot with prices and values at a rate, which add up to the snapshot's total;
// without prices and values where it isn't known.
func inRate(snap snapshot.Snapshot, held []valuation.Position, r currency.Rate) ([]valuation.Position, error) {
	if r.Known() {
		v, err := r.Valuation(valuation.Valuation{Total: snap.Total, Liabilities: snap.Liabilities,
			Collateral: snap.Collateral, Positions: held})
		return v.Positions, err
	}
	out := slices.Clone(held)
	for i := range out {
		out[i].Price.Amount, out[i].Value = "", nil
	}
	return out, nil
}

// kind is what the cells of a column are.
type kind int

const (
	id     kind = iota // text of ours, with a prefix
	text               // text from outside
	number             // a decimal; "" for none
	count
	boolean
	instant
)

type column struct {
	name string
	kind kind
}

var hourColumns = []column{
	{"portfolio_id", id}, {"hour_time", instant}, {"snapshot_time", instant}, {"currency", id}, {"total", number},
	{"assets", number}, {"liabilities", number}, {"collateral", number}, {"net_flow", number}, {"complete", boolean},
	{"price_gap", boolean}, {"backfilled", boolean},
	{"position_count", count}, {"unpriced_count", count}, {"rate", number}, {"unavailable_reason", id},
}

func hourRow(s snapshot.Snapshot, r currency.Rate) ([]any, error) {
	assets, err := s.Assets()
	return append([]any{"portfolio:" + s.Portfolio.String(), s.Bucket, s.SnapshotTime, r.Currency, plain(s.Total),
		plain(assets), plain(s.Liabilities), plain(s.Collateral), plain(s.NetFlow), s.Complete, s.PriceGap,
		s.Backfilled, s.Positions, s.Unpriced}, rateCells(r)...), err
}

// rateCells are a rate, and why there is none.
func rateCells(r currency.Rate) []any {
	if !r.Known() {
		return []any{"", currency.ReasonUnavailable}
	}
	return []any{padded(r.Price), ""}
}

var positionColumns = []column{
	{"portfolio_id", id}, {"hour_time", instant}, {"token_id", id}, {"symbol", text}, {"decimals", count},
	{"amount", number}, {"amount_base_units", id}, {"price", number}, {"price_source", text},
	{"price_time", instant}, {"price_stale", boolean}, {"value", number}, {"verified", boolean},
	{"unpriced_reason", id}, {"currency", id}, {"rate", number}, {"unavailable_reason", id},
	{"kind", id}, {"protocol", id}, {"market", id}, {"rate_mode", id},
	{"collateral", boolean},
}

func positionRow(s snapshot.Snapshot, p valuation.Position, r currency.Rate) []any {
	amount := apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(p.Amount), -int32(p.Decimals))
	cells := append([]any{"portfolio:" + s.Portfolio.String(), s.Bucket, p.TokenID, p.Symbol, int(p.Decimals),
		plain(amount), "base:" + p.Amount.String(), padded(p.Price.Amount), p.Price.Source, p.Price.Time,
		p.Price.Stale, plain(p.Value), p.Verified, p.Price.UnpricedReason, r.Currency}, rateCells(r)...)
	return append(cells, cmp.Or(string(p.Place.Kind), "WALLET"), p.Place.Protocol, p.Place.Market, p.Place.RateMode,
		p.Place.Collateral)
}

// plain returns a decimal without an exponent, "" for nil.
func plain(d *apd.Decimal) string {
	if d == nil {
		return ""
	}
	return padded(d.Text('f'))
}

// padded returns a decimal number with at least four decimals, or none.
func padded(number string) string {
	point := strings.IndexByte(number, '.')
	if point < 0 {
		return number
	}
	return number + strings.Repeat("0", max(0, 4-(len(number)-point-1)))
}
