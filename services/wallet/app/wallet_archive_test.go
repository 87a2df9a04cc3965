package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

const (
	etherID = "eip155:1/slip44:60"
	tokenID = "eip155:1/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
)

// fill stores two balances, and two hours of history with three.
func (s service) fill(t *testing.T, walletID string) {
	t.Helper()
	hour := time.Now().UTC().Truncate(time.Hour)
	for i, token := range []string{etherID, tokenID} {
		s.exec(t, "INSERT INTO balances VALUES ($1, $2, $3, 1, '', now())", walletID, token, i)
		at := hour.Add(time.Duration(-1-i) * time.Hour)
		s.exec(t, "INSERT INTO chain_hours VALUES (1, $1, 1, '', $1) ON CONFLICT DO NOTHING", at)
		s.exec(t, `INSERT INTO wallet_history (wallet_id, hour, hours, asset_count, read_at)
			VALUES ($1, $2, 1, 2, now())`, walletID, at)
		for _, held := range []string{etherID, tokenID}[i:] {
			s.exec(t, "INSERT INTO balance_history VALUES ($1, $2, $3, 7)", walletID, at, held)
		}
	}
}

// stored counts the rows of wallets, balances and history.
func (s service) stored(t *testing.T) (counts string) {
	t.Helper()
	row := s.db.SQL().QueryRowContext(t.Context(), `SELECT concat_ws(' ', (SELECT count(*) FROM wallets),
		(SELECT count(*) FROM balances), (SELECT count(*) FROM wallet_history),
		(SELECT count(*) FROM balance_history))`)
	if err := row.Scan(&counts); err != nil {
		t.Fatal(err)
	}
	return counts
}

func TestDeletingAWalletSaysHowMuchWasRemoved(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	w, kept := s.create(ctx, t, account), s.create(ctx, t, accountOf(7))
	s.fill(t, w.GetId())
	s.fill(t, kept.GetId())
	r := &walletv1.DeleteWalletRequest{WalletId: w.GetId(), Etag: "stale", RequestId: uuid.NewString()}
	_, err := s.wallets.DeleteWallet(ctx, r)
	servicetest.WantError(t, err, errs.KindConflict, "ETAG_MISMATCH")
	if got := s.stored(t); got != "2 4 4 6" {
		t.Fatalf("a call that fails leaves %s", got)
	}
	r.Etag = w.GetEtag()
	for range 2 { // with the same request_id
		got, err := s.wallets.DeleteWallet(ctx, r)
		if err != nil || got.GetBalanceCount() != 2 || got.GetHistoryHourCount() != 2 ||
			got.GetHistoryBalanceCount() != 3 {
			t.Fatalf("removed %v, %v", got, err)
		}
	}
	if got := s.stored(t); got != "1 2 2 3" {
		t.Errorf("left of the other wallet: %s", got)
	}
	_, err = s.wallets.DeleteWallet(ctx, &walletv1.DeleteWalletRequest{WalletId: w.GetId()})
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
	r.WalletId = kept.GetId()
	_, err = s.wallets.DeleteWallet(ctx, r)
	servicetest.WantViolation(t, err, "request_id")
	_, err = s.wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: accountOf(8),
		RequestId: r.GetRequestId(), AllowUnconfiguredChain: true})
	servicetest.WantViolation(t, err, "request_id")
}

func TestAnUpdateWithARequestIDCanBeRepeatedWithItsEtag(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	w := s.create(ctx, t, account)
	r := &walletv1.UpdateWalletRequest{WalletId: w.GetId(), Label: "warm", Etag: w.GetEtag()}
	first, err := s.wallets.UpdateWallet(ctx, &walletv1.UpdateWalletRequest{WalletId: r.GetWalletId(),
		Label: r.GetLabel(), Etag: r.GetEtag(), RequestId: uuid.Nil.String()})
	servicetest.WantViolation(t, err, "request_id")
	r.RequestId = uuid.NewString()
	for range 2 {
		got, err := s.wallets.UpdateWallet(ctx, r)
		if err != nil || got.GetWallet().GetLabel() != "warm" || first != nil && got.String() != first.String() {
			t.Fatalf("answered %v, %v", got, err)
		}
		first = got
	}
	r.RequestId = "" // the control
	_, err = s.wallets.UpdateWallet(ctx, r)
	servicetest.WantError(t, err, errs.KindConflict, "ETAG_MISMATCH")
}

func TestAnArchivedWalletIsPutAsideAndComesBackAsItWas(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	w, other := s.create(ctx, t, account), s.create(ctx, t, accountOf(7))
	s.fill(t, w.GetId())
	_, err := s.wallets.ArchiveWallet(ctx, &walletv1.ArchiveWalletRequest{WalletId: w.GetId(), Etag: "stale"})
	e := servicetest.WantError(t, err, errs.KindConflict, "ETAG_MISMATCH")
	if e.Metadata["current_etag"] != w.GetEtag() {
		t.Errorf("the etag is told as %v", e.Metadata)
	}
	archive := func() *walletv1.Wallet {
		t.Helper()
		got, err := s.wallets.ArchiveWallet(ctx,
			&walletv1.ArchiveWalletRequest{WalletId: w.GetId(), Etag: w.GetEtag()})
		if err != nil || got.GetWallet().GetArchiveTime() == nil {
			t.Fatal(got, err)
		}
		return got.GetWallet()
	}
	archived := archive()
	if again := archive(); again.String() != archived.String() || again.GetEtag() == w.GetEtag() {
		t.Errorf("a repeat is answered %v, not %v", again, archived)
	}
	// shown says which wallets are in the list, the list with archived ones, the
	// holdings, and the past.
	shown := func() string {
		t.Helper()
		var out []string
		for _, archived := range []bool{false, true} {
			list, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{ShowArchived: archived,
				View: walletv1.WalletView_WALLET_VIEW_WITH_BALANCES})
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(len(list.GetWallets())))
		}
		held, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		past, err := s.holdings.ListHistoricalHoldings(ctx, lastHours(nil))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(len(held.GetWallets())))
		var inHour map[string]bool
		for _, h := range past.GetHours() {
			if !h.GetOnlyChanges() {
				inHour = map[string]bool{}
			}
			for _, w := range h.GetWallets() {
				inHour[w.GetWalletId()] = true
			}
			out = append(out, fmt.Sprint(len(inHour)))
		}
		return strings.Join(out, " ")
	}
	if got := shown(); got != "1 2 1 1 1" {
		t.Errorf("while it is archived: %s", got)
	}
	_, err = s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "WALLET_ARCHIVED")
	_, err = s.wallets.CreateWallet(ctx,
		&walletv1.CreateWalletRequest{Account: account, AllowUnconfiguredChain: true})
	if e := servicetest.WantError(t, err, errs.KindAlreadyExists, "WALLET_EXISTS"); e.Metadata["archived"] != "true" ||
		e.Metadata["wallet_id"] != w.GetId() || !strings.Contains(e.Error(), w.GetId()+", and it is archived") {
		t.Errorf("the account's wallet is told as %v, %v", e, e.Metadata)
	}
	_, err = s.wallets.CreateWallet(ctx,
		&walletv1.CreateWalletRequest{Account: accountOf(7), AllowUnconfiguredChain: true})
	e = servicetest.WantError(t, err, errs.KindAlreadyExists, "WALLET_EXISTS")
	if e.Metadata["archived"] != "false" ||
		e.Metadata["wallet_id"] != other.GetId() {
		t.Errorf("the other account's wallet is told as %v, %v", e, e.Metadata)
	}
	page, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{ShowArchived: true, PageSize: 1})
	if err != nil || page.GetNextPageToken() == "" {
		t.Fatal(page, err)
	}
	_, err = s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{PageToken: page.GetNextPageToken()})
	servicetest.WantViolation(t, err, "page_token")

	restore := &walletv1.RestoreWalletRequest{WalletId: w.GetId(), Etag: archived.GetEtag()}
	restored, err := s.wallets.RestoreWallet(ctx, restore)
	if err != nil || restored.GetWallet().GetArchiveTime() != nil {
		t.Fatal(restored, err)
	}
	if again, err := s.wallets.RestoreWallet(ctx, restore); err != nil || again.String() != restored.String() {
		t.Errorf("a repeat is answered %v, %v, not %v", again, err, restored)
	}
	if got := shown(); got != "2 2 2 2 2" {
		t.Errorf("after it is restored: %s", got)
	}
	balances, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: w.GetId()})
	if err != nil || len(balances.GetBalances()) != 2 {
		t.Errorf("its balances are %v, %v", balances, err)
	}
}

func TestTheSyncJobLeavesArchivedWalletsOut(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	polygon := strings.Replace(account, ":1:", ":137:", 1) // whose node is down
	ids := map[string]string{}
	for _, a := range []string{account, polygon, accountOf(7), strings.Replace(accountOf(7), ":1:", ":137:", 1)} {
		ids[a] = s.create(ctx, t, a).GetId()
	}
	for _, a := range []string{account, polygon} {
		if _, err := s.wallets.ArchiveWallet(ctx, &walletv1.ArchiveWalletRequest{WalletId: ids[a]}); err != nil {
			t.Fatal(err)
		}
	}
	admin := s.issuer.As(t, uuid.New(), servicetest.Permissions("admin:system"),
		servicetest.SignedIn(time.Now(), "pwd"))
	run := func() {
		t.Helper()
		if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "sync_wallets"}); err != nil {
			t.Fatal(err)
		}
	}
	states := func() (text string) {
		t.Helper()
		list, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{ShowArchived: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range list.GetWallets() {
			text += strings.TrimPrefix(w.GetSync().GetState().String(), "SYNC_STATE_") + " "
		}
		return text
	}
	run()
	testkit.Eventually(t, time.Minute, func() bool { return states() == "PENDING PENDING FAILED FAILED " })
	for _, a := range []string{account, polygon} {
		if _, err := s.wallets.RestoreWallet(ctx, &walletv1.RestoreWalletRequest{WalletId: ids[a]}); err != nil {
			t.Fatal(err)
		}
	}
	run()
	testkit.Eventually(t, time.Minute, func() bool { return states() == "FAILED FAILED FAILED FAILED " })
}
