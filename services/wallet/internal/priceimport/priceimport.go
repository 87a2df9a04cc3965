// Package priceimport takes prices that operators have.
//
// It promises: a row that is wrong is named with its reason, and the others are stored; a
// price that is stored is replaced only when the call says so; a repeated call stores
// nothing and gets the first answer. Imported prices are stored apart from fetched ones.
package priceimport

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// Source is the name of imported prices as a source.
const Source = "imported"

// Given is a row as it was given. A time that is not given is zero.
type Given struct {
	TokenID, Price string
	At             time.Time
	// AtSet: a time was given, and is one of the years 1 to 9999.
	AtSet bool
}

// Row is a row that can be stored.
type Row struct {
	// Number is its index in the call.
	Number  int
	TokenID string
	Price   string
	At      time.Time
}

// Reason why a row was not stored.
type Reason string

// The reasons.
const (
	InvalidTokenID Reason = "INVALID_TOKEN_ID"
	UnknownToken   Reason = "UNKNOWN_TOKEN"
	InvalidPrice   Reason = "INVALID_PRICE"
	InvalidTime    Reason = "INVALID_TIME"
	DuplicateRow   Reason = "DUPLICATE_ROW"
	PriceExists    Reason = "PRICE_EXISTS"
)

// Failure of a row.
type Failure struct {
	Number int
	Reason Reason
	Rule   string
}

// Result of an import.
type Result struct {
	Imported, Unchanged int
	// Failures are in the order of the rows.
	Failures []Failure
}

// Store keeps imported prices.
type Store interface {
	// Import stores rows, no two of which have the same token and time, and returns how
	// many were stored and were there already, and the rows for which another price is
	// stored and replace is not set. failures are those of other rows, and become a part of
	// the result. If the caller's request has been answered before, it returns that answer.
	Import(ctx context.Context, caller uuid.UUID, r requests.Request, rows []Row, replace bool,
		failures []Failure) (Result, error)
}

// Tokens finds tokens and currencies; *price.Service does.
type Tokens interface {
	Known(ctx context.Context, ids []string) (map[string]token.Token, error)
}

// Service imports prices. It is safe for concurrent use.
type Service struct {
	store  Store
	tokens Tokens
	used   bool
	now    func() time.Time
}

// NewService returns the rules over a store. used says whether imported prices are one of
// the deployment's sources.
func NewService(s Store, t Tokens, used bool, now func() time.Time) *Service {
	return &Service{store: s, tokens: t, used: used, now: now}
}

// Import checks and stores rows. The error is errs.FailedPrecondition
// (IMPORTED_IS_NO_SOURCE), or errs.Invalid for an id of a request that was used for
// another.
func (s *Service) Import(ctx context.Context, caller uuid.UUID, r requests.Request, given []Given,
	replace bool) (Result, error) {
	if !s.used {
		return Result{}, errs.FailedPrecondition("IMPORTED_IS_NO_SOURCE", "imported prices would not be used: "+
			`the deployment's PURSER_PRICE_SOURCES does not have "imported"`)
	}
	rows, failures := s.check(given)
	known, err := s.tokens.Known(ctx, ids(rows))
	if err != nil {
		return Result{}, err
	}
	kept := rows[:0]
	for _, row := range rows {
		if _, has := known[row.TokenID]; has {
			kept = append(kept, row)
			continue
		}
		failures = append(failures, Failure{row.Number, UnknownToken,
			"must be the id of a token that is known here"})
	}
	return s.store.Import(ctx, caller, r, kept, replace, failures)
}

func ids(rows []Row) []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range rows {
		if !seen[r.TokenID] {
			seen[r.TokenID], out = true, append(out, r.TokenID)
		}
	}
	return out
}

// earliest is the earliest time that a price may have.
func earliest() time.Time { return time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC) }

// check returns the rows that may be stored, and what is wrong with the others.
func (s *Service) check(given []Given) (rows []Row, failures []Failure) {
	type key struct {
		token string
		at    int64
	}
	first := map[key]int{}
	for i, g := range given {
		row, failure := s.checkRow(i, g)
		if failure != nil {
			failures = append(failures, *failure)
			continue
		}
		k := key{row.TokenID, row.At.UnixMicro()}
		if before, twice := first[k]; twice {
			failures = append(failures, Failure{i, DuplicateRow, fmt.Sprintf(
				"must not be in two rows with one time, and is in row %d too", before+1)})
			continue
		}
		first[k] = i
		rows = append(rows, row)
	}
	return rows, failures
}

func (s *Service) checkRow(number int, g Given) (Row, *Failure) {
	fail := func(why Reason, rule string) (Row, *Failure) { return Row{}, &Failure{number, why, rule} }
	id := g.TokenID
	if !price.IsCurrency(id) {
		asset, err := caip.ParseAsset(id)
		if err != nil {
			return fail(InvalidTokenID, err.Error())
		}
		id = asset.String()
	}
	value, err := price.Parse(g.Price)
	if err != nil {
		return fail(InvalidPrice, "must be a decimal number above 0 with at most 40 digits before and 40 after the "+
			"point")
	}
	now := s.now()
	switch {
	case !g.AtSet:
		return fail(InvalidTime, "must be a time")
	case g.At.Before(earliest()) || g.At.After(now):
		return fail(InvalidTime, fmt.Sprintf("must be from 2015 to now (%s)", now.UTC().Format(time.RFC3339)))
	}
	return Row{Number: number, TokenID: id, Price: value, At: g.At.UTC().Truncate(time.Microsecond)}, nil
}
