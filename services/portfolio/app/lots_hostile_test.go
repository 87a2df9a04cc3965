package app_test

import (
	"context"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// Whatever the wallet service answers, nothing is computed of a part of it, or of another owner.
func TestLotsNeedAllTransactions(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	s.trades(trade{"2021-01-01", 10, 10})
	l := &s.wallet.ledger
	ask := func() error {
		_, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{})
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	l.with(func() { l.cut = true })
	servicetest.WantError(t, ask(), errs.KindUnavailable, "WALLET_UNAVAILABLE")
	l.with(func() { l.cut, l.foreign = false, true })
	if err := ask(); !errs.Is(err, errs.KindInternal) {
		t.Errorf("%v", err)
	}
	l.with(func() { l.foreign, l.unavailable = false, true })
	servicetest.WantError(t, ask(), errs.KindUnavailable, "WALLET_UNAVAILABLE")
	one := moved(time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), "a in 1 usd")
	l.with(func() {
		l.unavailable, l.moved = false, make([]*walletv1.Movement, 200_001)
		for i := range l.moved {
			l.moved[i] = one
		}
	})
	servicetest.WantError(t, ask(), errs.KindExhausted, "TOO_MANY_TRANSACTIONS")
}

// An impossible amount has no value, and one of tomorrow no price; both are there.
func TestImpossibleTransactionsAreToldAndNotValued(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	huge := new(big.Int).Lsh(big.NewInt(1), 256)
	tomorrow := time.Now().Add(24 * time.Hour)
	s.wallet.rates.tokens.Store(usd, "1")
	s.ledger(time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC), "a in "+huge.String()+" usd", tomorrow, "a in 5 usd",
		tomorrow.Add(time.Hour), "a out 7 usd")
	s.wallet.ledger.with(func() {
		for _, m := range s.wallet.ledger.moved[1:] {
			m.Price, m.PriceUnread = "", true
		}
	})
	resp, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{})
	if err != nil || len(resp.GetLots()) != 2 || resp.GetLots()[0].GetCost() != "" ||
		resp.GetLots()[1].GetCost() != "" {
		t.Fatalf("%v, %v", resp, err)
	}
	var reasons []string
	for _, u := range resp.GetState().GetUnpriced() {
		reasons = append(reasons, u.GetReason())
	}
	if got := strings.Join(reasons, " "); got != "VALUE_OUT_OF_RANGE SOURCE_UNAVAILABLE SOURCE_UNAVAILABLE" {
		t.Error(got)
	}
}

// exportLots returns a whole file.
func (s service) exportLots(ctx context.Context, req *portfoliov1.ExportLotsRequest) (file []byte, rows int64,
	err error) {
	stream, err := s.lots.ExportLots(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	whole := false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) && whole {
			return file, rows, nil
		}
		if err != nil {
			return nil, 0, err
		}
		file, rows, whole = append(file, m.GetData()...), m.GetRowCount(), m.RowCount != nil
	}
}

func TestLotsAreExportedByTheRulesOfFiles(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "wallet:read")
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	s.ledger(at, "a in 10000000 usd", at.Add(time.Hour), "a out 10000000 usd "+hashOf(1), "a in 1125 small "+hashOf(1),
		at.Add(2*time.Hour), "a out 125 small "+hashOf(2), "a in 5000000 usd "+hashOf(2))
	file, rows, err := s.exportLots(ctx, &portfoliov1.ExportLotsRequest{})
	if err != nil || rows != 2 {
		t.Fatal(rows, err)
	}
	got := table(t, file, ',')[1]
	if got["symbol"] != "'=1+1" || got["quantity"] != "1.2500" || got["quantity_base_units"] != "base:125" ||
		got["gain"] != "3.88888889" || got["wallet_id"] != "wallet:a" || !strings.HasPrefix(got["lot_id"], "lot:") ||
		got["transaction_hash"] != "tx:"+hashOf(2) || got["acquire_time"] != "2024-01-01T01:00:00Z" {
		t.Errorf("%v", got)
	}
	file, rows, err = s.exportLots(ctx, &portfoliov1.ExportLotsRequest{
		Content: portfoliov1.LotContent_LOT_CONTENT_OPEN_LOTS,
		Format:  portfoliov1.ExportFormat_EXPORT_FORMAT_CSV_SEMICOLON,
		Options: &portfoliov1.LotOptions{PerWallet: true}})
	if err != nil || rows != 2 {
		t.Fatal(rows, err)
	}
	if got := table(t, file, ';')[1]; got["cost"] != "8,88888889" || got["quantity"] != "10,0000" ||
		got["value"] != "" {
		t.Errorf("%v", got)
	}
	_, rows, err = s.exportLots(ctx, &portfoliov1.ExportLotsRequest{EndTime: timestamppb.New(at)})
	if err != nil || rows != 0 {
		t.Error(rows, err)
	}
}
