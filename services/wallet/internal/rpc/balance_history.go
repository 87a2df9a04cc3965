package rpc

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/timerange"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/asof"
	"github.com/purserhq/purser/services/wallet/internal/importing"
)

// ListHistoricalBalances implements the RPC.
func (s *BalanceServer) ListHistoricalBalances(ctx context.Context,
	req *walletv1.ListHistoricalBalancesRequest) (*walletv1.ListHistoricalBalancesResponse, error) {
	caller := authn.CallerFrom(ctx)
	q, err := pastQuery(caller, req, time.Now())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListHistoricalBalances", caller.UserID.String(), q.Owner.String(), q.Wallet.String(),
		q.At.String())
	if q.After, _, err = page.Parse[asof.Cursor](query, req.GetPageToken()); err != nil {
		return nil, err
	}
	if err := checkCursor(q.After.Token); err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultRowsPerPage, maxRowsPerPage)
	q.Limit = limit + 1
	rows, err := s.past.BalancesAt(ctx, q)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, rows, limit, asof.CursorOf, pastBalanceToProto)
	if err != nil {
		return nil, err
	}
	return &walletv1.ListHistoricalBalancesResponse{Balances: onPage, NextPageToken: next, OwnerId: q.Owner.String()},
		nil
}

func pastQuery(caller authn.Caller, req *walletv1.ListHistoricalBalancesRequest, now time.Time) (q asof.Query,
	err error) {
	if q.Owner, err = ownerOf(caller, req.GetOwnerId()); err != nil {
		return q, err
	}
	if req.GetWalletId() != "" {
		q.Wallet, err = parseWalletID(req.GetWalletId())
	}
	q.At = req.GetAtTime().AsTime()
	return q, errs.AllInvalid(err, checkAtTime(req.GetAtTime(), now))
}

// checkAtTime returns errs.Invalid for a time that nothing can be known of.
func checkAtTime(t *timestamppb.Timestamp, now time.Time) error {
	const field = "at_time"
	at, err := timerange.Time(field, t)
	if err != nil {
		return err
	}
	earliest := importing.Earliest()
	if at.IsZero() { // unset, or the first moment of the year 1
		return errs.Invalid(field, "must be set, to "+earliest.Format(time.RFC3339)+" or later")
	}
	return timerange.CheckTime(field, at, timerange.Rules{Now: now, Skew: timerange.ClockSkew, Earliest: earliest})
}

var bases = map[asof.Basis]walletv1.BalanceBasis{
	asof.Read:           walletv1.BalanceBasis_BALANCE_BASIS_READ,
	asof.CarriedForward: walletv1.BalanceBasis_BALANCE_BASIS_CARRIED_FORWARD,
	asof.Moved:          walletv1.BalanceBasis_BALANCE_BASIS_TRANSACTIONS,
}

func pastBalanceToProto(r asof.Row) *walletv1.HistoricalBalance {
	m := &walletv1.HistoricalBalance{WalletId: r.Wallet.String(), Basis: bases[r.Basis],
		UnavailableReason: string(r.Reason)}
	if r.Token != nil {
		m.Token = tokenToProto(*r.Token)
	}
	if r.Basis != asof.None {
		m.Amount, m.BlockNumber, m.BlockTime, m.Imported = r.Amount.Dec(), r.Block, timestamppb.New(r.At), r.Imported
	}
	return m
}

// ImportBalances implements the RPC.
func (s *BalanceServer) ImportBalances(ctx context.Context,
	req *walletv1.ImportBalancesRequest) (*walletv1.ImportBalancesResponse, error) {
	id, request, err := importIDs(req)
	if err != nil {
		return nil, err
	}
	rows := make([]importing.BalanceInput, len(req.GetBalances()))
	for i, r := range req.GetBalances() {
		rows[i] = importing.BalanceInput{Token: r.GetTokenId(), Amount: r.GetAmount(), Time: timeText(r.GetTime())}
	}
	result, err := s.imports.Balances(ctx, authn.CallerFrom(ctx).UserID, id, rows, request)
	if err != nil {
		return nil, err
	}
	return &walletv1.ImportBalancesResponse{Result: importResult(result)}, nil
}

func importIDs(req interface {
	GetWalletId() string
	GetRequestId() string
}) (id, request uuid.UUID, err error) {
	id, wrongID := parseWalletID(req.GetWalletId())
	request, wrongRequest := requests.ID(req)
	return id, request, errs.AllInvalid(wrongID, wrongRequest)
}

// timeText is a time as imports have them: a text, since a row with a wrong one fails by itself.
func timeText(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	if t.CheckValid() != nil {
		return fmt.Sprintf("%d seconds and %d nanoseconds since 1970", t.GetSeconds(), t.GetNanos())
	}
	return t.AsTime().Format(time.RFC3339Nano)
}

func importResult(r importing.Result) *walletv1.ImportResult {
	m := &walletv1.ImportResult{StoredCount: int32(r.Stored), ReplacedCount: int32(r.Replaced),
		UnchangedCount: int32(r.Unchanged)}
	for _, f := range r.Failures {
		m.Failures = append(m.Failures, &walletv1.ImportFailure{Row: int32(f.Row), Field: f.Field, Given: f.Given,
			Rule: f.Rule})
	}
	return m
}

// ImportTransactions implements the RPC.
func (s *TransactionServer) ImportTransactions(ctx context.Context,
	req *walletv1.ImportTransactionsRequest) (*walletv1.ImportTransactionsResponse, error) {
	id, request, err := importIDs(req)
	if err != nil {
		return nil, err
	}
	rows := make([]importing.TransactionInput, len(req.GetTransactions()))
	for i, r := range req.GetTransactions() {
		rows[i] = importing.TransactionInput{ID: r.GetRowId(), Token: r.GetTokenId(), Kind: kindText(r.GetKind()),
			Direction: directionText(r.GetDirection()), Amount: r.GetAmount(), Time: timeText(r.GetTime()),
			Counterparty: r.GetCounterparty(), Hash: r.GetTransactionHash()}
	}
	result, err := s.imports.Transactions(ctx, authn.CallerFrom(ctx).UserID, id, rows, request)
	if err != nil {
		return nil, err
	}
	return &walletv1.ImportTransactionsResponse{Result: importResult(result)}, nil
}
