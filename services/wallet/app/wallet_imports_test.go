package app_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

const (
	tokenAAA = "eip155:1/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	eth      = "eip155:1/slip44:60"
)

// day is noon of a day of January 2024.
func day(n int) *timestamppb.Timestamp {
	return timestamppb.New(time.Date(2024, 1, n, 12, 0, 0, 0, time.UTC))
}

func (s service) importBalances(t *testing.T, ctx context.Context, r *walletv1.ImportBalancesRequest) string {
	t.Helper()
	resp, err := s.balances.ImportBalances(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return resultText(resp.GetResult())
}

func (s service) importTransactions(t *testing.T, ctx context.Context, r *walletv1.ImportTransactionsRequest) string {
	t.Helper()
	resp, err := s.moves.ImportTransactions(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	return resultText(resp.GetResult())
}

// resultText is a result as a text: counts, then the failures without their rules.
func resultText(r *walletv1.ImportResult) string {
	text := fmt.Sprint(r.GetStoredCount(), r.GetReplacedCount(), r.GetUnchangedCount())
	for _, f := range r.GetFailures() {
		text += fmt.Sprintf("; %d %s %s", f.GetRow(), f.GetField(), f.GetGiven())
		if f.GetRule() == "" {
			text += " without a rule"
		}
	}
	return text
}

// pastBalances is what a wallet had at a time, by symbol, read in pages of one.
func (s service) pastBalances(t *testing.T, ctx context.Context, r *walletv1.ListHistoricalBalancesRequest) string {
	t.Helper()
	var out []string
	for {
		r.PageSize = 1
		resp, err := s.balances.ListHistoricalBalances(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range resp.GetBalances() {
			basis := strings.TrimPrefix(b.GetBasis().String(), "BALANCE_BASIS_")
			text := fmt.Sprintf("%s %s %s %s", b.GetToken().GetSymbol(), b.GetAmount(), basis,
				b.GetUnavailableReason())
			out = append(out, strings.Join(strings.Fields(text), " "))
		}
		if r.PageToken = resp.GetNextPageToken(); r.PageToken == "" {
			return strings.Join(out, ", ")
		}
	}
}

func TestAWalletWithoutANodeHasTheHistoryThatIsImported(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	w := s.create(ctx, t, account).GetId()
	past := func(n int) string {
		t.Helper()
		return s.pastBalances(t, ctx, &walletv1.ListHistoricalBalancesRequest{WalletId: w, AtTime: day(n)})
	}
	if got := past(9); got != "UNSPECIFIED NOT_READ" {
		t.Errorf("before any import: %s", got)
	}
	got := s.importBalances(t, ctx, &walletv1.ImportBalancesRequest{WalletId: w, Balances: []*walletv1.BalanceRow{
		{TokenId: tokenAAA, Amount: "100", Time: day(2)}, {TokenId: tokenAAA, Amount: "50",
			Time: day(6)}, {TokenId: eth, Amount: "0", Time: day(6)}}})
	if got != "3 0 0" {
		t.Fatal(got)
	}
	got = s.importTransactions(t, ctx, &walletv1.ImportTransactionsRequest{WalletId: w,
		Transactions: []*walletv1.TransactionRow{
			{RowId: "ex-1", TokenId: tokenAAA, Direction: walletv1.Direction_DIRECTION_OUT, Amount: "30", Time: day(4),
				Counterparty: "eip155:1:" + receiver, TransactionHash: "0x" + strings.Repeat("ab", 32)},
			{RowId: "ex-2", TokenId: tokenAAA, Direction: walletv1.Direction_DIRECTION_IN, Amount: "7", Time: day(8)},
			{RowId: "ex-3", TokenId: eth, Kind: walletv1.TransactionKind_TRANSACTION_KIND_FEE, Amount: "1",
				Time:      day(4),
				Direction: walletv1.Direction_DIRECTION_OUT},
		}})
	if got != "3 0 0" {
		t.Fatal(got)
	}
	for n, want := range map[int]string{
		1: "AAA UNSPECIFIED NOT_READ, ETH UNSPECIFIED NOT_READ",
		3: "AAA 100 CARRIED_FORWARD, ETH UNSPECIFIED NOT_READ",
		5: "AAA 70 TRANSACTIONS, ETH UNSPECIFIED IMPLAUSIBLE", // a fee of nothing
		7: "AAA 50 CARRIED_FORWARD, ETH 0 CARRIED_FORWARD",
		9: "AAA 57 TRANSACTIONS, ETH 0 CARRIED_FORWARD",
	} {
		if got := past(n); got != want {
			t.Errorf("on day %d: %s, want %s", n, got, want)
		}
	}
	list, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: w})
	if err != nil || len(list.GetBalances()) != 2 {
		t.Fatal(list, err)
	}
	moved, sums := ledger(ctx, t, s.moves, w)
	for _, b := range list.GetBalances() {
		if !b.GetImported() || b.GetBlockNumber() != 0 || sums[b.GetToken().GetId()].String() != b.GetAmount() {
			t.Errorf("%v, and its movements add up to %s", b, sums[b.GetToken().GetId()])
		}
	}
	want := []string{"ADJUSTMENT IN 100 AAA", "TRANSFER OUT 30 AAA", "FEE OUT 0 ETH", "ADJUSTMENT OUT 20 AAA",
		"ADJUSTMENT IN 1 ETH", "TRANSFER IN 7 AAA"}
	slices.Sort(moved)
	slices.Sort(want)
	if !slices.Equal(moved, want) {
		t.Errorf("the movements are %q", moved)
	}
	holdings, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
	if err != nil || len(holdings.GetWallets()) != 1 || len(holdings.GetWallets()[0].GetHoldings()) != 1 ||
		!holdings.GetWallets()[0].GetHoldings()[0].GetImported() {
		t.Error(holdings, err)
	}
	var changes int
	err = s.db.SQL().QueryRowContext(t.Context(), `SELECT count(*) FROM changes WHERE kind = 'BALANCES_CHANGED'
		AND subject_id = $1`, w).Scan(&changes)
	if err != nil || changes != 2 {
		t.Errorf("%d changes are in the feed, %v", changes, err)
	}
	// Of all wallets of the owner, and of another owner.
	all := &walletv1.ListHistoricalBalancesRequest{AtTime: day(9), OwnerId: servicetest.UserID(ctx, t)}
	if got := s.pastBalances(t, s.may(t, "wallet:read", "wallet:any"), all); got != past(9) {
		t.Errorf("of the owner: %s", got)
	}
	_, err = s.balances.ListHistoricalBalances(s.user(t), all)
	servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	if removed, err := s.wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: w}); err != nil ||
		removed.GetBalanceCount() != 2 || removed.GetTransactionCount() != 6 {
		t.Error(removed, err)
	}
	var left int
	err = s.db.SQL().QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM balance_changes WHERE wallet_id = $1) +
		(SELECT count(*) FROM transactions WHERE wallet_id = $1)`, w).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d rows are left of a deleted wallet, %v", left, err)
	}
}

func TestAnImportIsTakenByRows(t *testing.T) {
	s := start(t)
	ctx, mallory := s.user(t), s.user(t)
	w := s.create(ctx, t, account).GetId()
	future := timestamppb.New(time.Now().Add(time.Hour))
	r := &walletv1.ImportBalancesRequest{WalletId: w, RequestId: uuid.NewString(), Balances: []*walletv1.BalanceRow{
		{TokenId: tokenAAA, Amount: "1", Time: day(1)},
		{TokenId: "AAA", Amount: "1.5", Time: nil},
		{TokenId: "eip155:137/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", Amount: "1", Time: day(1)},
		{TokenId: tokenAAA, Amount: "115792089237316195423570985008687907853269984665640564039457584007913129639936",
			Time: day(2)},
		{TokenId: tokenAAA, Amount: "115792089237316195423570985008687907853269984665640564039457584007913129639935",
			Time: day(2)},
		{TokenId: tokenAAA, Amount: "-1", Time: future},
		{TokenId: tokenAAA, Amount: "2", Time: day(1)},
		{TokenId: "eip155:1/erc20:0x00000000000000000000000000000000000000ff", Amount: "2", Time: day(1)},
	}}
	want := `2 0 0; 2 token_id got "AAA"; 2 amount got "1.5"; 2 time got nothing; ` +
		`3 token_id got "eip155:137/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"; ` +
		`4 amount got 78 characters, not repeated here since they may be a secret; 6 amount got "-1"; 6 time got "` +
		future.AsTime().Format(time.RFC3339Nano) + `"; 7 time got "2024-01-01T12:00:00Z"; ` +
		`8 token_id got "eip155:1/erc20:0x00000000000000000000000000000000000000ff"`
	first := s.importBalances(t, ctx, r)
	if first != want {
		t.Errorf("the result is\n%s\nand not\n%s", first, want)
	}
	if again := s.importBalances(t, ctx, r); again != first {
		t.Errorf("again it is\n%s", again)
	}
	other := proto.CloneOf(r)
	other.Balances = other.GetBalances()[:1]
	_, err := s.balances.ImportBalances(ctx, other)
	servicetest.WantViolation(t, err, "request_id")
	_, err = s.moves.ImportTransactions(ctx, &walletv1.ImportTransactionsRequest{WalletId: w,
		RequestId: r.GetRequestId()})
	servicetest.WantViolation(t, err, "request_id")
	r.RequestId = ""
	if again := s.importBalances(t, ctx, r); !strings.HasPrefix(again, "0 0 2;") {
		t.Errorf("without the id: %s", again)
	}
	_, err = s.balances.ImportBalances(mallory, r)
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.balances.ImportBalances(s.issuer.As(t, uuid.MustParse(servicetest.UserID(ctx, t)),
		servicetest.Permissions("wallet:read")), r)
	servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	got := s.importTransactions(t, ctx, &walletv1.ImportTransactionsRequest{WalletId: w,
		Transactions: []*walletv1.TransactionRow{
			{RowId: "a b", TokenId: tokenAAA, Direction: 1, Amount: "1", Time: day(1)},
			{RowId: "1", TokenId: tokenAAA, Direction: 3, Amount: "0", Time: day(1), Kind: 3},
			{RowId: "2", TokenId: eth, Direction: 1, Amount: "1", Time: day(1), Kind: 2},
			{RowId: "3", TokenId: eth, Direction: 1, Amount: "1", Time: day(1), Counterparty: "eip155:137:" + receiver,
				TransactionHash: "0x12"},
			{RowId: "4", TokenId: eth, Direction: 1, Amount: "1", Time: day(1)},
			{RowId: "4", TokenId: eth, Direction: 1, Amount: "2", Time: day(1)},
			{RowId: "5", TokenId: eth, Direction: 1, Amount: "1", Time: &timestamppb.Timestamp{Seconds: 1 << 60}},
			{RowId: "6", TokenId: eth, Direction: 9, Amount: "01", Time: &timestamppb.Timestamp{Seconds: 1704110400,
				Nanos: 1}, Kind: 9},
		}})
	if want := `1 0 0; 1 row_id got "a b"; 2 kind got "ADJUSTMENT"; 2 direction got "SELF"; 2 amount got "0"; ` +
		`3 direction got "IN"; 4 counterparty got "eip155:137:` + receiver + `"; 4 transaction_hash got "0x12"; ` +
		`6 row_id got "4"; 7 time got "1152921504606846976 seconds and 0 nanoseconds since 1970"; 8 kind got "9"; ` +
		`8 direction got "9"; 8 amount got "01"; 8 time got "2024-01-01T12:00:00.000000001Z"`; got != want {
		t.Errorf("the result is\n%s\nand not\n%s", got, want)
	}
	tooMany := &walletv1.ImportBalancesRequest{WalletId: w, Balances: make([]*walletv1.BalanceRow, 1001)}
	for i := range tooMany.GetBalances() {
		tooMany.Balances[i] = &walletv1.BalanceRow{}
	}
	_, err = s.balances.ImportBalances(ctx, tooMany)
	servicetest.WantViolation(t, err, "balances")
	for _, at := range []*timestamppb.Timestamp{nil, future,
		timestamppb.New(time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC)),
		{Seconds: 1 << 60}} {
		_, err := s.balances.ListHistoricalBalances(ctx, &walletv1.ListHistoricalBalancesRequest{AtTime: at})
		servicetest.WantViolation(t, err, "at_time")
	}
}
