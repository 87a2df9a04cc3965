package gains

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/export"
)

// FileRequest is what a file has.
type FileRequest struct {
	Scope
	Format export.Format
	Open   bool // open lots; otherwise disposals
}

// names of enums in files.
var (
	causeNames = []string{"", "SWAP", "INCOME", "SENT", "FEE", "ADJUSTMENT", "UNMATCHED"}
	ruleNames  = []string{"", "SAME_DAY", "THIRTY_DAYS", "POOL", ""}
)

var disposalColumns = []export.Column{
	export.NewColumn("disposal_id", export.ID), export.NewColumn("token_id", export.ID),
	export.NewColumn("symbol", export.Text), export.NewColumn("wallet_id", export.ID),
	export.NewColumn("dispose_time", export.Instant), export.NewColumn("acquire_time", export.Instant),
	export.NewColumn("cause", export.ID), export.NewColumn("quantity", export.Number),
	export.NewColumn("quantity_base_units", export.ID), export.NewColumn("proceeds", export.Number),
	export.NewColumn("cost", export.Number), export.NewColumn("gain", export.Number),
	export.NewColumn("currency", export.ID), export.NewColumn("lot_id", export.ID),
	export.NewColumn("missing", export.Boolean), export.NewColumn("rule", export.ID),
	export.NewColumn("long_term", export.Boolean), export.NewColumn("wash_loss", export.Number),
	export.NewColumn("wash_denied", export.Boolean), export.NewColumn("transaction_hash", export.ID),
	export.NewColumn("unpriced_reason", export.ID), export.NewColumn("unmet_reason", export.Text),
}

var lotColumns = []export.Column{
	export.NewColumn("lot_id", export.ID), export.NewColumn("token_id", export.ID),
	export.NewColumn("symbol", export.Text), export.NewColumn("wallet_id", export.ID),
	export.NewColumn("acquire_time", export.Instant), export.NewColumn("cause", export.ID),
	export.NewColumn("quantity", export.Number), export.NewColumn("quantity_base_units", export.ID),
	export.NewColumn("cost", export.Number), export.NewColumn("value", export.Number),
	export.NewColumn("gain", export.Number), export.NewColumn("currency", export.ID),
	export.NewColumn("transaction_hash", export.ID), export.NewColumn("unpriced_reason", export.ID),
}

// WriteFile writes a file to out and returns how many rows it has, the header excepted. errs.FailedPrecondition
// (TOO_MANY_ROWS), or out's error.
func (s *Service) WriteFile(ctx context.Context, r *Result, f FileRequest, out io.Writer) (rows int, err error) {
	all := len(r.assets) * MaxMovements
	var parts []Part
	var open []Priced
	columns := disposalColumns
	if f.Open {
		columns, open = lotColumns, r.Open(Scope{Asset: f.Asset}, nil, all)
		if err := s.AddValues(ctx, r, open); err != nil {
			return 0, err
		}
	} else {
		parts = r.Parts(f.Scope, nil, all)
		slices.SortStableFunc(parts, func(a, b Part) int { return a.Time.Compare(b.Time) })
	}
	if n := len(parts) + len(open); f.Format == export.XLSX && n > export.MaxSheetRows {
		return 0, errs.FailedPrecondition("TOO_MANY_ROWS", fmt.Sprintf("there are %d rows, and an XLSX file has at "+
			"most %d: ask for a shorter range, or for CSV", n, export.MaxSheetRows))
	}
	t, err := export.NewTable(f.Format, out, columns)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	for i := range parts {
		if err := t.Row(r.partRow(&parts[i])); err != nil {
			return rows, err
		}
		rows++
	}
	for i := range open {
		if err := t.Row(r.lotRow(&open[i])); err != nil {
			return rows, err
		}
		rows++
	}
	return rows, t.Finish()
}

// prefixed has a prefix that no spreadsheet reads as a number; "" stays.
func prefixed(prefix, id string) string {
	if id == "" {
		return ""
	}
	return prefix + id
}

func (r *Result) partRow(p *Part) []any {
	t, _ := r.Token(p.Asset)
	return []any{prefixed("disposal:", strings.TrimPrefix(p.Disposal, "lot:")), p.Asset, t.Symbol,
		prefixed("wallet:", p.Wallet), p.Time, p.Acquired, causeNames[p.Cause],
		export.Padded(Decimal(p.Quantity, t.Decimals)), "base:" + p.Quantity.String(), Money(p.Proceeds),
		Money(p.Cost),
		Money(p.Gain), r.Currency, p.Lot, p.Missing, ruleNames[p.Rule], p.LongTerm, Money(p.Wash.Loss), p.Denied,
		prefixed("tx:", p.Hash), p.Reason, p.Unmet}
}

func (r *Result) lotRow(p *Priced) []any {
	t, _ := r.Token(p.Asset)
	return []any{p.ID, p.Asset, t.Symbol, prefixed("wallet:", p.Wallet), p.Acquired, causeNames[p.Cause],
		export.Padded(Decimal(p.Quantity, t.Decimals)), "base:" + p.Quantity.String(), Money(p.Cost), Money(p.Value),
		Money(p.Gain), r.Currency, prefixed("tx:", p.Hash), p.Reason}
}
