package app_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// Each filter alone, and all of them together, in pages of every size.
func TestTransactionsAreFilteredByWalletTokenKindAndTime(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	const in, out = walletv1.Direction_DIRECTION_IN, walletv1.Direction_DIRECTION_OUT
	const transfer, fee = walletv1.TransactionKind_TRANSACTION_KIND_TRANSFER,
		walletv1.TransactionKind_TRANSACTION_KIND_FEE
	row := func(id, token string, kind walletv1.TransactionKind, direction walletv1.Direction,
		on int) *walletv1.TransactionRow {
		return &walletv1.TransactionRow{RowId: id, TokenId: token, Kind: kind, Direction: direction, Amount: "1",
			Time: day(on)}
	}
	a := s.create(ctx, t, account).GetId()
	b := s.create(ctx, t, "eip155:1:"+receiver).GetId()
	for id, rows := range map[string][]*walletv1.TransactionRow{
		a: {row("a2", eth, transfer, in, 2), row("a3", tokenAAA, transfer, in, 3), row("a4", eth, fee, out, 4),
			row("a6", tokenAAA, transfer, out, 6)},
		b: {row("b3", eth, transfer, in, 3), row("b5", eth, fee, out, 5)},
	} {
		got := s.importTransactions(t, ctx, &walletv1.ImportTransactionsRequest{WalletId: id, Transactions: rows})
		if got != fmt.Sprint(len(rows), 0, 0) {
			t.Fatal(got)
		}
	}
	list := func(r *walletv1.ListTransactionsRequest) string {
		t.Helper()
		var ids []string
		for r.PageToken = ""; ; {
			page, err := s.moves.ListTransactions(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page.GetTransactions() {
				ids = append(ids, m.GetRowId())
			}
			if r.PageToken = page.GetNextPageToken(); r.GetPageToken() == "" {
				return strings.Join(ids, " ")
			}
		}
	}
	// Two of the same time are in an order of the ids of their wallets.
	third := []string{"b3", "a3"}
	if strings.Contains(list(&walletv1.ListTransactionsRequest{}), "a3 b3") {
		slices.Reverse(third)
	}
	both := strings.Join(third, " ")
	const tick = time.Microsecond
	after := func(n int, d time.Duration) *timestamppb.Timestamp { return timestamppb.New(day(n).AsTime().Add(d)) }
	for name, tc := range map[string]struct {
		request *walletv1.ListTransactionsRequest
		want    string
	}{
		"all":              {&walletv1.ListTransactionsRequest{}, "a6 b5 a4 " + both + " a2"},
		"a wallet":         {&walletv1.ListTransactionsRequest{WalletId: b}, "b5 b3"},
		"a token":          {&walletv1.ListTransactionsRequest{TokenId: tokenAAA}, "a6 a3"},
		"a token, nowhere": {&walletv1.ListTransactionsRequest{TokenId: "eip155:10/slip44:60"}, ""},
		"a kind":           {&walletv1.ListTransactionsRequest{Kinds: []walletv1.TransactionKind{fee}}, "b5 a4"},
		"two kinds": {&walletv1.ListTransactionsRequest{Kinds: []walletv1.TransactionKind{fee, transfer}},
			"a6 b5 a4 " + both + " a2"},
		"from a time":       {&walletv1.ListTransactionsRequest{StartTime: day(4)}, "a6 b5 a4"},
		"from just after":   {&walletv1.ListTransactionsRequest{StartTime: after(4, tick)}, "a6 b5"},
		"until a time":      {&walletv1.ListTransactionsRequest{EndTime: day(4)}, both + " a2"},
		"until just after":  {&walletv1.ListTransactionsRequest{EndTime: after(4, tick)}, "a4 " + both + " a2"},
		"between times":     {&walletv1.ListTransactionsRequest{StartTime: day(3), EndTime: day(5)}, "a4 " + both},
		"of an instant":     {&walletv1.ListTransactionsRequest{StartTime: day(3), EndTime: after(3, tick)}, both},
		"of a time without": {&walletv1.ListTransactionsRequest{StartTime: day(7)}, ""},
		"everything": {&walletv1.ListTransactionsRequest{WalletId: a, TokenId: eth,
			Kinds: []walletv1.TransactionKind{fee}, StartTime: day(3), EndTime: day(5)}, "a4"},
	} {
		for _, size := range []int32{0, 1, 2, 3} {
			tc.request.PageSize = size
			if got := list(tc.request); got != tc.want {
				t.Errorf("%s in pages of %d: %q, want %q", name, size, got, tc.want)
			}
		}
	}
	first, err := s.moves.ListTransactions(ctx, &walletv1.ListTransactionsRequest{PageSize: 1, StartTime: day(3)})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		field string
		r     *walletv1.ListTransactionsRequest
	}{
		{"page_token", &walletv1.ListTransactionsRequest{PageSize: 1, StartTime: day(4),
			PageToken: first.GetNextPageToken()}}, // of another query
		{"start_time", &walletv1.ListTransactionsRequest{StartTime: day(3), EndTime: day(3)}},
		{"start_time", &walletv1.ListTransactionsRequest{StartTime: &timestamppb.Timestamp{Nanos: -1}}},
		{"end_time", &walletv1.ListTransactionsRequest{EndTime: &timestamppb.Timestamp{Nanos: -1}}},
	} {
		_, err := s.moves.ListTransactions(ctx, tc.r)
		servicetest.WantViolation(t, err, tc.field)
	}
}
