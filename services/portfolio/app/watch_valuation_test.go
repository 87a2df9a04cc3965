package app_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// live runs two replicas, without Redis, on one wallet that tells of its changes. more are further settings.
func live(t *testing.T, more ...string) (a, b service, w *liveWallet) {
	t.Helper()
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	w = newLiveWallet()
	var settings []string
	s.walletAddr, settings = serveLive(t, s.issuer, w)
	settings = append(settings, more...)
	return s.replica(t, servicetest.NoRedis, io.Discard, settings...),
		s.replica(t, servicetest.NoRedis, io.Discard, settings...), w
}

// watched is a stream, read as it comes. It is safe for concurrent use.
type watched struct {
	mu       sync.Mutex
	totals   []string // of the messages that have a valuation
	messages int
	cursor   string
	last     *portfoliov1.Valuation
	err      error
	stop     context.CancelFunc
}

// watch opens a stream that is read until it ends, with the test or by stop.
func (s service) watch(ctx context.Context, t *testing.T, r *portfoliov1.WatchValuationRequest) *watched {
	t.Helper()
	w := &watched{}
	ctx, w.stop = context.WithCancel(ctx)
	t.Cleanup(w.stop)
	stream, err := s.WatchValuation(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			m, err := stream.Recv()
			w.mu.Lock()
			if w.err = err; err == nil {
				w.messages++
				w.cursor = m.GetCursor()
				if m.GetValuation() != nil {
					w.last = m.GetValuation()
					w.totals = append(w.totals, w.last.GetTotal())
				}
			}
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

// state is what has come so far.
func (w *watched) state() (totals []string, messages int, cursor string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.totals, w.messages, w.cursor, w.err
}

// want waits until the last valuation has this total.
func (w *watched) want(t *testing.T, total string) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() bool {
		totals, _, _, err := w.state()
		if err != nil {
			t.Fatalf("%v after %q", err, totals)
		}
		return len(totals) > 0 && totals[len(totals)-1] == total
	})
}

// begins waits for the first message.
func (w *watched) begins(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() bool {
		_, messages, _, err := w.state()
		if err != nil {
			t.Fatal(err)
		}
		return messages > 0
	})
}

// ends waits for the end of the stream.
func (w *watched) ends(t *testing.T) error {
	t.Helper()
	testkit.Eventually(t, 30*time.Second, func() bool {
		_, _, _, err := w.state()
		return err != nil
	})
	_, _, _, err := w.state()
	return err
}

func TestAWatcherHasTheStateAtOnceAndEachOtherOneAtEveryReplica(t *testing.T) {
	t.Parallel()
	a, b, w := live(t)
	ada, _ := a.newUser(t, "portfolio:read", "wallet:read")
	eve, _ := a.newUser(t, "portfolio:read", "wallet:read")
	owner := servicetest.UserID(ada, t)
	here, there := a.watch(ada, t, &portfoliov1.WatchValuationRequest{}),
		b.watch(ada, t, &portfoliov1.WatchValuationRequest{})
	hers := b.watch(eve, t, &portfoliov1.WatchValuationRequest{})
	for _, s := range []*watched{here, there, hers} {
		s.want(t, "10.00000000")
	}
	w.hold("3", owner)
	here.want(t, "30.00000000")
	there.want(t, "30.00000000")
	_, _, at, _ := here.state()
	if _, _, other, _ := there.state(); other != at {
		t.Errorf("replicas have the cursors %q and %q of one state", at, other)
	}
	here.stop()

	// With the cursor nothing comes while the state is the same, whatever it was meanwhile.
	again := b.watch(ada, t, &portfoliov1.WatchValuationRequest{Cursor: at})
	again.begins(t)
	if totals, _, cursor, _ := again.state(); len(totals) > 0 || cursor != at {
		t.Errorf("%q came at %q after the cursor of the same state, %q", totals, cursor, at)
	}
	w.hold("4", owner)
	again.want(t, "40.00000000")
	there.want(t, "40.00000000")
	missed := a.watch(ada, t, &portfoliov1.WatchValuationRequest{Cursor: at})
	missed.want(t, "40.00000000")
	// A cursor of another currency or owner is as none.
	a.watch(ada, t, &portfoliov1.WatchValuationRequest{Cursor: at, Currency: "EUR"}).want(t, "20.00000000")
	a.watch(eve, t, &portfoliov1.WatchValuationRequest{Cursor: at}).want(t, "10.00000000")
	if totals, _, _, err := hers.state(); len(totals) != 1 || err != nil {
		t.Errorf("another owner's stream has %q, %v", totals, err)
	}
}

// Many changes at once are few messages, the last of which is the last state. The control is the number of changes
// that the wallet has told.
func TestABurstOfChangesIsOneMessage(t *testing.T) {
	t.Parallel()
	a, _, w := live(t)
	ada, _ := a.newUser(t, "portfolio:read", "wallet:read")
	owner := servicetest.UserID(ada, t)
	s := a.watch(ada, t, &portfoliov1.WatchValuationRequest{})
	s.want(t, "10.00000000")
	const burst = 200
	begun, before := time.Now(), w.readsOf(owner)
	for i := range burst {
		w.hold(fmt.Sprint(i+2), owner)
	}
	s.want(t, fmt.Sprintf("%d.00000000", 10*(burst+1)))
	totals, _, _, _ := s.state()
	took := time.Since(begun)
	// One, unless the burst takes longer than the pace of two a second.
	most := 2 + int(took/(500*time.Millisecond))
	if n := len(totals) - 1; n > most {
		t.Errorf("%d messages of a burst of %s, want at most %d", n, took, most)
	}
	if n := w.readsOf(owner) - before; n > 2*most { // of two replicas, one of which nobody watches, and FollowOwner
		t.Errorf("%d reads of holdings for a burst, want at most %d", n, 2*most)
	}
	told := 0
	w.with(func() { told = len(w.changes) })
	testkit.Figure(t, "%d changes in %s: %d messages", told, took.Round(time.Millisecond), len(totals)-1)
	if told != burst {
		t.Errorf("%d changes were told of, so nothing was proven", told)
	}
}

// Prices are asked for once a period for all, and each stream that told another price hears of it; so of rates.
func TestAPriceThatChangesReachesItsWatchers(t *testing.T) {
	t.Parallel()
	a, _, w := live(t, "PURSER_WATCH_PRICES_EVERY=1s")
	const users = 20
	var all []*watched
	for range users {
		ctx, _ := a.newUser(t, "portfolio:read", "wallet:read")
		all = append(all, a.watch(ctx, t, &portfoliov1.WatchValuationRequest{}))
	}
	ada, _ := a.newUser(t, "portfolio:read", "wallet:read")
	euros := a.watch(ada, t, &portfoliov1.WatchValuationRequest{Currency: "EUR"})
	for _, s := range all {
		s.want(t, "10.00000000")
	}
	euros.want(t, "5.00000000")
	begun, before := time.Now(), 0
	w.with(func() { w.price, before = "11", w.priceReads })
	for _, s := range all {
		s.want(t, "11.00000000")
	}
	euros.want(t, "5.50000000")
	w.with(func() { w.euro = "4" })
	euros.want(t, "2.75000000")
	asked, most := 0, 0
	w.with(func() {
		// A replica asks once a second; the other one has no watcher. The rate of each state in euros is asked for.
		asked, most = w.priceReads-before, 2*(2+int(time.Since(begun)/time.Second))+8
	})
	if asked > most {
		t.Errorf("prices were asked for %d times for %d streams, want at most %d", asked, users+1, most)
	}
	for _, s := range all {
		if totals, _, _, _ := s.state(); len(totals) != 2 {
			t.Errorf("%q, want two", totals)
		}
	}
}

// The portfolio's own wallets are no change of holdings: another replica notices them too.
func TestANamedPortfolioIsWatchedUntilItIsDeleted(t *testing.T) {
	t.Parallel()
	a, b, _ := live(t)
	ada, _ := a.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	wallet := servicetest.UserID(ada, t)
	made, err := a.CreatePortfolio(ada, &portfoliov1.CreatePortfolioRequest{Name: "cold"})
	if err != nil {
		t.Fatal(err)
	}
	id := made.GetPortfolio().GetId()
	s := b.watch(ada, t, &portfoliov1.WatchValuationRequest{PortfolioId: id})
	s.begins(t)
	if _, err := a.ChangePortfolioWallets(ada, &portfoliov1.ChangePortfolioWalletsRequest{PortfolioId: id,
		AddWalletIds: []string{wallet}}); err != nil {
		t.Fatal(err)
	}
	s.want(t, "10.00000000")
	if _, err := a.DeletePortfolio(ada, &portfoliov1.DeletePortfolioRequest{PortfolioId: id}); err != nil {
		t.Fatal(err)
	}
	servicetest.WantError(t, s.ends(t), errs.KindNotFound, "NOT_FOUND")
}

// While wallet is away the state is the last snapshot, and what changed meanwhile comes when it is back.
func TestAWatcherSeesAnOutageOfTheWalletServiceAndItsEnd(t *testing.T) {
	t.Parallel()
	a, _, w := live(t, "PURSER_WATCH_PRICES_EVERY=1s")
	ada, _ := a.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	if _, err := a.TakeSnapshot(ada, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	owner := servicetest.UserID(ada, t)
	w.hold("2", owner)
	s := a.watch(ada, t, &portfoliov1.WatchValuationRequest{})
	s.want(t, "20.00000000")
	w.with(func() { w.unavailable = true })
	s.want(t, "10.00000000")
	s.mu.Lock()
	if !s.last.GetStale() || s.last.GetComplete() {
		t.Errorf("%v, want a stale state", s.last)
	}
	s.mu.Unlock()
	w.hold("5", owner)
	w.with(func() { w.unavailable = false })
	s.want(t, "50.00000000")
}

// Without an account of its own the service isn't told of changes: each stream looks for itself.
func TestWithoutAServiceAccountAWatcherLooksForItself(t *testing.T) {
	t.Parallel()
	a := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	w := newLiveWallet()
	a.walletAddr, _ = serveLive(t, a.issuer, w)
	a = a.replica(t, servicetest.NoRedis, io.Discard, "PURSER_WATCH_PRICES_EVERY=1s")
	ada, _ := a.newUser(t, "portfolio:read", "wallet:read")
	s := a.watch(ada, t, &portfoliov1.WatchValuationRequest{})
	s.want(t, "10.00000000")
	w.hold("7", servicetest.UserID(ada, t))
	s.want(t, "70.00000000")
	w.with(func() { w.price = "100" })
	s.want(t, "700.00000000")
}

func TestWhatCannotBeWatchedAsAValuation(t *testing.T) {
	t.Parallel()
	a, _, w := live(t)
	ada, _ := a.newUser(t, "portfolio:read", "wallet:read")
	for field, r := range map[string]*portfoliov1.WatchValuationRequest{
		"cursor":       {Cursor: "yesterday"},
		"currency":     {Currency: "PLN"},
		"portfolio_id": {PortfolioId: "mine"},
	} {
		servicetest.WantViolation(t, a.watch(ada, t, r).ends(t), field)
	}
	err := a.watch(ada, t, &portfoliov1.WatchValuationRequest{Cursor: strings.Repeat("x", 21) + "!"}).ends(t)
	servicetest.WantViolation(t, err, "cursor")
	err = a.watch(ada, t, &portfoliov1.WatchValuationRequest{PortfolioId: uuid.NewString()}).ends(t)
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
	noReader, _ := a.newUser(t, "portfolio:write")
	servicetest.WantError(t, a.watch(noReader, t, &portfoliov1.WatchValuationRequest{}).ends(t),
		errs.KindPermissionDenied, "PERMISSION_MISSING")
	w.with(func() { w.unavailable = true })
	servicetest.WantError(t, a.watch(ada, t, &portfoliov1.WatchValuationRequest{}).ends(t), errs.KindUnavailable,
		"WALLET_UNAVAILABLE")
}

func TestACallerHasAFewStreamsOfValuations(t *testing.T) {
	t.Parallel()
	a, _, _ := live(t)
	ada, _ := a.newUser(t, "portfolio:read", "wallet:read")
	eve, _ := a.newUser(t, "portfolio:read", "wallet:read")
	var all []*watched
	for range 16 {
		all = append(all, a.watch(ada, t, &portfoliov1.WatchValuationRequest{}))
	}
	for _, s := range all {
		s.want(t, "10.00000000")
	}
	servicetest.WantError(t, a.watch(ada, t, &portfoliov1.WatchValuationRequest{}).ends(t), errs.KindExhausted,
		"TOO_MANY_STREAMS")
	a.watch(eve, t, &portfoliov1.WatchValuationRequest{}).want(t, "10.00000000")
	all[3].stop()
	testkit.Eventually(t, time.Minute, func() bool {
		again := a.watch(ada, t, &portfoliov1.WatchValuationRequest{})
		testkit.Eventually(t, time.Minute, func() bool { _, n, _, err := again.state(); return n > 0 || err != nil })
		_, _, _, err := again.state()
		return err == nil
	})
}
