package app_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

var specific = &portfoliov1.LotOptions{Method: portfoliov1.LotMethod_LOT_METHOD_SPECIFIC, PerWallet: true}

// Lots are identified before a disposal: the next one takes them, and nothing that is recorded later changes that.
func TestIdentifiedLotsAreTakenByTheNextDisposal(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	w := uuid.NewString()
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	before := []any{at, w + " in 100000000 usd",
		at.Add(time.Hour), w + " out 10000000 usd " + hashOf(1), w + " in 10 coin " + hashOf(1),
		at.Add(2 * time.Hour), w + " out 30000000 usd " + hashOf(2), w + " in 10 coin " + hashOf(2)}
	s.ledger(before...)
	listed, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{TokenId: coin, Options: specific})
	if err != nil || len(listed.GetLots()) != 2 {
		t.Fatal(listed, err)
	}
	cheap, dear := listed.GetLots()[0].GetLotId(), listed.GetLots()[1].GetLotId()
	record := func(hash string, request string, picks ...*portfoliov1.LotPick) (*portfoliov1.LotIdentification,
		error) {
		resp, err := s.lots.IdentifyLots(ctx, &portfoliov1.IdentifyLotsRequest{WalletId: w, TokenId: coin,
			Picks:           picks,
			TransactionHash: hash, RequestId: request, Options: specific})
		return resp.GetIdentification(), err
	}
	pick := func(lot, quantity string) *portfoliov1.LotPick {
		return &portfoliov1.LotPick{LotId: lot, Quantity: quantity}
	}
	request := uuid.NewString()
	first, err := record("", request, pick(dear, "4"))
	if err != nil || first.GetRecordTime().AsTime().After(time.Now().Add(time.Minute)) {
		t.Fatal(first, err)
	}
	again, err := record("", request, pick(dear, "4"))
	if err != nil || !proto.Equal(first, again) {
		t.Errorf("repeated: %v, %v", again, err)
	}
	_, err = record("", request, pick(cheap, "4"))
	servicetest.WantViolation(t, err, "request_id")
	_, err = record("", "", pick(dear, "11"))
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "LOT_NOT_AVAILABLE")
	_, err = record("", "", pick("lot:000000000000000000000000", "1"))
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "LOT_NOT_AVAILABLE")
	_, err = record(hashOf(1)[:10], "", pick(dear, "1"))
	servicetest.WantViolation(t, err, "transaction_hash")
	_, err = record("", "", pick(dear, "01"))
	servicetest.WantViolation(t, err, "picks[0].quantity")
	_, err = record("", "", pick(dear, "1"), pick(dear, "1"))
	servicetest.WantViolation(t, err, "picks[1].lot_id")
	_, err = s.lots.IdentifyLots(ctx, &portfoliov1.IdentifyLotsRequest{WalletId: uuid.NewString(), TokenId: coin,
		Picks: []*portfoliov1.LotPick{pick(dear, "1")}, Options: specific})
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
	other, _ := s.newUser(t, "portfolio:read", "wallet:read")
	_, err = s.lots.IdentifyLots(other, &portfoliov1.IdentifyLotsRequest{WalletId: w, TokenId: coin,
		Picks: []*portfoliov1.LotPick{pick(dear, "1")}})
	servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")

	// One disposal long before the record, one just after it.
	sale := time.Now().Add(time.Second)
	s.ledger(append(before, at.Add(3*time.Hour), w+" out 1 coin "+hashOf(3), w+" in 5000000 usd "+hashOf(3),
		sale, w+" out 4 coin "+hashOf(4), w+" in 20000000 usd "+hashOf(4))...)
	want := "1:4, 4:8" // one of 1 for 5; four of 3 for 20
	if got := s.disposals(ctx, t, coin, specific); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	// The control: nobody asked for them.
	if got := s.disposals(ctx, t, coin, &portfoliov1.LotOptions{PerWallet: true}); got != "1:4, 4:16" {
		t.Errorf("by FIFO %s", got)
	}
	// After the disposal it is refused for its transaction, and what is recorded for the next one changes nothing.
	_, err = record(hashOf(4), "", pick(cheap, "4"))
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "DISPOSED_ALREADY")
	s.exec(t, `UPDATE lot_identifications SET recorded_at = recorded_at - interval '1 hour'`)
	if _, err := record("", "", pick(cheap, "4")); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `UPDATE lot_identifications SET recorded_at = recorded_at + interval '1 hour'
		WHERE recorded_at > now() - interval '30 minutes'`)
	if got := s.disposals(ctx, t, coin, specific); got != want {
		t.Errorf("after another record %s, want %s", got, want)
	}
	_, err = s.lots.IdentifyLots(ctx, &portfoliov1.IdentifyLotsRequest{WalletId: w, TokenId: coin,
		Picks: []*portfoliov1.LotPick{pick(dear, "1")}, Options: &portfoliov1.LotOptions{View: viewUK}})
	servicetest.WantViolation(t, err, "options.method")
}

// What users recorded is erased with them.
func TestIdentifiedLotsAreErasedWithTheirOwner(t *testing.T) {
	t.Parallel()
	s := start(t)
	user := uuid.New()
	ctx, _ := s.as(t, user, "portfolio:read", "portfolio:write", "wallet:read")
	w := uuid.NewString()
	s.ledger(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), w+" in 100 usd")
	listed, err := s.lots.ListLots(ctx, &portfoliov1.ListLotsRequest{Options: specific})
	if err != nil {
		t.Fatal(err)
	}
	identify := func() error {
		_, err := s.lots.IdentifyLots(ctx, &portfoliov1.IdentifyLotsRequest{WalletId: w, TokenId: usd,
			Options: specific,
			Picks:   []*portfoliov1.LotPick{{LotId: listed.GetLots()[0].GetLotId(), Quantity: "1"}}})
		return err
	}
	if err := identify(); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `INSERT INTO erased_owners (owner_id, cursor) VALUES ('`+user.String()+`', 1)`)
	if err := identify(); err == nil {
		t.Error("a user who is deleted recorded something")
	}
}
