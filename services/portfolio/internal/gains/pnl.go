package gains

import (
	"cmp"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// Period is how long periods are.
type Period int

// Periods.
const (
	Year Period = iota + 1
	Month
	UKTaxYear
)

// start is the start of the period of a time, whose location says when days begin.
func (p Period) start(at time.Time) time.Time {
	y, m, d := at.Date()
	switch p {
	case Month:
		return time.Date(y, m, 1, 0, 0, 0, 0, at.Location())
	case UKTaxYear:
		if m < time.April || m == time.April && d < 6 {
			y--
		}
		return time.Date(y, time.April, 6, 0, 0, 0, 0, at.Location())
	default:
		return time.Date(y, time.January, 1, 0, 0, 0, 0, at.Location())
	}
}

// Group is what rows are by.
type Group struct {
	ByToken, ByWallet bool
	By                Period // 0 for no periods
}

// MaxRows is how many rows an answer has at most.
const MaxRows = 5000

// Row names a row.
type Row struct {
	Asset, Wallet string
	Start         time.Time // of the period
}

// Realized is what disposals gained.
type Realized struct {
	Row
	Proceeds, Cost, Gain, Denied, Income big.Int
	Short, Long                          big.Int // parts of Gain
	Parts, Unpriced                      int
}

// Unrealized is what open lots would gain now.
type Unrealized struct {
	Row
	Cost, Value, Gain big.Int
	Lots, Unpriced    int
}

func (r *Result) row(g Group, asset, wallet string, at time.Time) (row Row) {
	if g.ByToken {
		row.Asset = asset
	}
	if g.ByWallet {
		row.Wallet = wallet
	}
	if g.By != 0 {
		row.Start = g.By.start(at.In(r.Zone))
	}
	return row
}

// Realized adds up disposals and income. errs.Exhausted (TOO_MANY_ROWS).
func (r *Result) Realized(s Scope, g Group) ([]*Realized, error) {
	rows := map[Row]*Realized{}
	at := func(asset, wallet string, t time.Time) *Realized {
		key := r.row(g, asset, wallet, t)
		if rows[key] == nil {
			rows[key] = &Realized{Row: key}
		}
		return rows[key]
	}
	for _, p := range r.Parts(s, nil, len(r.assets)*MaxMovements) {
		row := at(p.Asset, p.Wallet, p.Time)
		row.Parts++
		if p.Gain == nil {
			row.Unpriced++
			continue
		}
		add(&row.Proceeds, p.Proceeds)
		add(&row.Cost, p.Cost)
		add(&row.Gain, p.Gain)
		if p.Denied {
			add(&row.Denied, p.Wash.Loss)
		}
		if p.LongTerm {
			add(&row.Long, p.Gain)
		} else {
			add(&row.Short, p.Gain)
		}
	}
	for _, asset := range r.of(s) {
		events := r.events[asset]
		for i := range events {
			e := &events[i]
			if e.income != nil && e.Cause.isIncome() && s.has(e.Time) && r.has(e.Wallet) {
				add(&at(asset, e.Wallet, e.Time).Income, e.income)
			}
		}
	}
	return sortedRows(rows, func(v *Realized) Row { return v.Row })
}

func add(to, v *big.Int) { to.Add(to, v) }

// Unrealized adds up open lots. The error is that of Realized.
func (r *Result) Unrealized(open []Priced, g Group) ([]*Unrealized, error) {
	g.By = 0
	rows := map[Row]*Unrealized{}
	for i := range open {
		o := &open[i]
		key := r.row(g, o.Asset, o.Wallet, time.Time{})
		if rows[key] == nil {
			rows[key] = &Unrealized{Row: key}
		}
		row := rows[key]
		row.Lots++
		if o.Gain == nil {
			row.Unpriced++
			continue
		}
		add(&row.Cost, o.Cost)
		add(&row.Value, o.Value)
		add(&row.Gain, o.Gain)
	}
	return sortedRows(rows, func(v *Unrealized) Row { return v.Row })
}

func sortedRows[T any](rows map[Row]T, row func(T) Row) ([]T, error) {
	if len(rows) > MaxRows {
		return nil, errs.Exhausted("TOO_MANY_ROWS", fmt.Sprintf("the answer would have %d rows, and at most %d are "+
			"given: ask for longer periods, a shorter range, or less in group_by", len(rows), MaxRows))
	}
	return slices.SortedFunc(maps.Values(rows), func(a, b T) int {
		x, y := row(a), row(b)
		return cmp.Or(x.Start.Compare(y.Start), cmp.Compare(x.Asset, y.Asset), cmp.Compare(x.Wallet, y.Wallet))
	}), nil
}
