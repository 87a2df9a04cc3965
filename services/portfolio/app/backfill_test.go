package app_test

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// past is the history that wallet tells: two wallets of one token each, with
// amounts and prices that follow from the hour.
type past struct {
	mu    sync.Mutex
	read  map[int64]int // hours, how often
	stop  func(h time.Time) error
	calls int
}

// then is what an hour has: the amounts of two tokens with 18 and 6 decimals and
// their prices. Every 7th hour knows no price of the second, and every 11th
// nothing of its wallet.
func then(h time.Time) (first, second *big.Int, prices [2]string, unpriced, failed bool) {
	n := h.Unix() / 3600
	first = new(big.Int).Exp(big.NewInt(n%9973+1000), big.NewInt(6), nil)
	return first, big.NewInt(n % 7919 * 1000003),
		[2]string{fmt.Sprintf("%d.%d", n%4001+1, n%97), fmt.Sprintf("0.%06d", n%99991)}, n%7 == 0, n%11 == 0
}

// worth is what an hour's snapshot has to come to, worked out another way.
func worth(h time.Time) (total string, complete bool) {
	first, second, prices, unpriced, failed := then(h)
	value := func(amount *big.Int, decimals int64, price string) *big.Rat {
		p, _ := new(big.Rat).SetString(price)
		exact := new(big.Rat).Mul(new(big.Rat).SetFrac(amount,
			new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil)), p)
		// Half to even at eight decimals.
		scaled := exact.Mul(exact, big.NewRat(100_000_000, 1))
		whole, rest := new(big.Int).QuoRem(scaled.Num(), scaled.Denom(), new(big.Int))
		if c := rest.Lsh(rest, 1).Cmp(scaled.Denom()); c > 0 || c == 0 && whole.Bit(0) == 1 {
			whole.Add(whole, big.NewInt(1))
		}
		return new(big.Rat).SetFrac(whole, big.NewInt(100_000_000))
	}
	sum := value(first, 18, prices[0])
	if !unpriced && !failed {
		sum.Add(sum, value(second, 6, prices[1]))
	}
	return sum.FloatString(8), !unpriced && !failed
}

func (p *past) at(h time.Time) *walletv1.HistoricalHoldings {
	first, second, prices, unpriced, failed := then(h)
	held := func(id string, decimals uint32, amount *big.Int, price string) *walletv1.Holding {
		quote := &walletv1.Price{TokenId: id, Price: price, Source: "test",
			PriceTime: timestamppb.New(h.Add(-time.Minute))}
		if price == "" {
			quote = &walletv1.Price{TokenId: id, UnpricedReason: "NO_PRICE"}
		}
		return &walletv1.Holding{Balance: &walletv1.Balance{Token: &walletv1.Token{Id: id, Symbol: id,
			Decimals: decimals, Verified: true}, Amount: amount.String()}, Price: quote}
	}
	if unpriced {
		prices[1] = ""
	}
	a := &walletv1.WalletHoldings{WalletId: "a", Account: "eip155:1:0xa",
		Sync:     &walletv1.Sync{SyncTime: timestamppb.New(h)},
		Holdings: []*walletv1.Holding{held("a", 18, first, prices[0])}}
	b := &walletv1.WalletHoldings{WalletId: "b", Account: "eip155:1:0xb",
		Sync:     &walletv1.Sync{SyncTime: timestamppb.New(h)},
		Holdings: []*walletv1.Holding{held("b", 6, second, prices[1])}}
	if failed {
		b.Sync, b.Holdings = &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED,
			Error: "no state of that block"}, nil
	}
	return &walletv1.HistoricalHoldings{HourTime: timestamppb.New(h), Wallets: []*walletv1.WalletHoldings{a, b}}
}

// ListHistoricalHoldings answers at most ten hours a page, of which the last goes
// on on the next.
func (w *wallet) ListHistoricalHoldings(ctx context.Context,
	r *walletv1.ListHistoricalHoldingsRequest) (*walletv1.ListHistoricalHoldingsResponse, error) {
	w.mu.Lock()
	md, _ := metadata.FromIncomingContext(ctx)
	w.tokens = append(w.tokens, md.Get("authorization")...)
	w.mu.Unlock()
	p := &w.past
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.read == nil {
		p.read = map[int64]int{}
	}
	from := r.GetStartTime().AsTime()
	if r.GetPageToken() != "" {
		if err := from.UnmarshalText([]byte(r.GetPageToken())); err != nil {
			return nil, status.Error(codes.InvalidArgument, "page_token")
		}
	}
	if from.Truncate(time.Hour) != from {
		return nil, status.Error(codes.InvalidArgument, "not an hour")
	}
	resp := &walletv1.ListHistoricalHoldingsResponse{OwnerId: r.GetOwnerId()}
	for h := from; h.Before(r.GetEndTime().AsTime()); h = h.Add(time.Hour) {
		if p.stop != nil {
			if err := p.stop(h); err != nil {
				return nil, err
			}
		}
		whole := p.at(h)
		if h.Sub(from) == 10*time.Hour {
			resp.NextPageToken = h.Format(time.RFC3339)
			break
		}
		p.read[h.Unix()]++
		resp.Hours = append(resp.Hours, whole)
	}
	return resp, nil
}

// fill backfills [start, end) as a caller does, and says what was stored.
func (s service) fill(ctx context.Context, start, end time.Time) (stored, incomplete int, err error) {
	for next := timestamppb.New(start); next != nil; {
		resp, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: next,
			EndTime: timestamppb.New(end)})
		if err != nil {
			return stored, incomplete, err
		}
		b := resp.GetBackfill()
		stored, incomplete, next = stored+int(b.GetStoredCount()), incomplete+int(b.GetIncompleteCount()),
			b.GetNextStartTime()
		if resp.GetStored() != (b.GetStoredCount() > 0) || resp.GetStored() != (resp.GetSnapshot() != nil) ||
			(next == nil) != (b.GetRemainingCount() == 0) {
			return stored, incomplete, fmt.Errorf("answered %v", resp)
		}
	}
	return stored, incomplete, nil
}

// history are the caller's snapshots as lines, oldest first.
func (s service) history(ctx context.Context, t *testing.T) (lines []string) {
	t.Helper()
	for token := ""; ; {
		resp, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 500, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, snap := range resp.GetSnapshots() {
			bucket := snap.GetBucketTime().AsTime()
			if !snap.GetBackfilled() || !snap.GetSnapshotTime().AsTime().Equal(bucket) {
				t.Errorf("%v", snap)
			}
			lines = append(lines, fmt.Sprint(bucket.Unix(), snap.GetTotal(), snap.GetComplete(),
				snap.GetPositionCount(), snap.GetUnpricedCount()))
		}
		if token = resp.GetNextPageToken(); token == "" {
			slices.Reverse(lines)
			return lines
		}
	}
}

// lately is n hours that have passed.
func lately(n int) (start, end time.Time) {
	end = time.Now().UTC().Truncate(time.Hour)
	return end.Add(-time.Duration(n) * time.Hour), end
}

func TestABackfillComesToWhatWasHeldAtThePricesOfThen(t *testing.T) {
	s := start(t)
	user := uuid.New()
	ctx, token := s.as(t, user, "portfolio:read", "portfolio:write")
	from, until := lately(700)
	stored, incomplete, err := s.fill(ctx, from, until)
	if err != nil || stored != 700 {
		t.Fatal(stored, err)
	}
	for i, line := range s.history(ctx, t) {
		h := from.Add(time.Duration(i) * time.Hour)
		total, complete := worth(h)
		if !complete {
			incomplete--
		}
		if want := fmt.Sprint(h.Unix(), total, complete); !strings.HasPrefix(line, want) {
			t.Errorf("hour %d is %s, want %s", i, line, want)
		}
	}
	if incomplete != 0 {
		t.Errorf("%d more are called incomplete than are", incomplete)
	}
	if s.wallet.lastToken() != "Bearer "+token {
		t.Error("the wallet service was called in another's name")
	}
	// What is complete is not read again.
	clear(s.wallet.past.read)
	if stored, _, err := s.fill(ctx, from, until); err != nil || stored != 0 {
		t.Errorf("once more: %d stored, %v", stored, err)
	}
	for unix := range s.wallet.past.read {
		if _, complete := worth(time.Unix(unix, 0)); complete {
			t.Errorf("%s was read again", time.Unix(unix, 0).UTC())
		}
	}
	other, _ := s.user(t, "portfolio:read")
	if got := s.history(other, t); len(got) > 0 {
		t.Errorf("another user has %v", got)
	}
}

// The wallet service dies, callers go, the service is killed: what is gone on
// with comes to what an undisturbed run does.
func TestABackfillThatIsCutOffIsGoneOnWith(t *testing.T) {
	from, until := lately(300)
	undisturbed := start(t)
	calm, _ := undisturbed.user(t, "portfolio:read", "portfolio:write")
	if _, _, err := undisturbed.fill(calm, from, until); err != nil {
		t.Fatal(err)
	}
	want := undisturbed.history(calm, t)

	s := start(t)
	ctx, _ := s.user(t, "portfolio:read", "portfolio:write")
	cut := from.Add(57 * time.Hour)
	s.wallet.past.stop = func(h time.Time) error {
		if h.Before(cut) {
			return nil
		}
		return status.Error(codes.Unavailable, "dead")
	}
	resp, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)})
	// Of a page that doesn't arrive nothing is known.
	if b := resp.GetBackfill(); err != nil || b.GetStoredCount() != 49 || b.GetProcessedCount() != 49 ||
		b.GetRemainingCount() != 251 {
		t.Fatalf("%v, %v", resp, err)
	}
	_, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: resp.GetBackfill().GetNextStartTime(),
		EndTime: timestamppb.New(until)})
	if e := errs.As(err); e == nil || e.Kind != errs.KindUnavailable || e.Reason != "WALLET_UNAVAILABLE" {
		t.Fatalf("answered %v", err)
	}
	// The caller goes while wallet is asked, which ends the transaction too.
	gone, leave := context.WithCancel(ctx)
	s.wallet.past.stop = func(h time.Time) error {
		if h.After(from.Add(150 * time.Hour)) {
			leave()
			<-gone.Done()
		}
		return nil
	}
	if _, err := s.TakeSnapshot(gone, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)}); err == nil {
		t.Error("a caller who has gone is answered")
	}
	s.wallet.past.mu.Lock()
	s.wallet.past.stop = nil
	s.wallet.past.mu.Unlock()
	if _, _, err := s.fill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	if got := s.history(ctx, t); !slices.Equal(got, want) {
		t.Errorf("%d hours, undisturbed %d:\n%v\n%v", len(got), len(want), got, want)
	}
}

func TestTwoBackfillsOfARangeAtOnceEndWithTheSameRows(t *testing.T) {
	p := startPair(t)
	ctx, _ := p.a.user(t, "portfolio:read", "portfolio:write")
	from, until := lately(200)
	if got := p.b.lastClose(ctx, t); got != [2]string{} {
		t.Fatal(got)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s := p.a
			if i%2 == 1 {
				s = p.b
			}
			if _, _, err := s.fill(ctx, from, until); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	lines := p.a.history(ctx, t)
	if len(lines) != 200 {
		t.Fatalf("%d hours", len(lines))
	}
	for i, line := range lines {
		total, complete := worth(from.Add(time.Duration(i) * time.Hour))
		if want := fmt.Sprint(from.Add(time.Duration(i)*time.Hour).Unix(), total, complete); !strings.HasPrefix(line,
			want) {
			t.Errorf("hour %d is %s, want %s", i, line, want)
		}
	}
	// The timeline that the other replica had cached shows them.
	total, _ := worth(until.Add(-time.Hour))
	p.logs.atOnce(t, "the other answers", fmt.Sprint([2]string{total, total}),
		func() string { return fmt.Sprint(p.b.lastClose(ctx, t)) })
}

func TestARangeThatBreaksARuleNamesItsField(t *testing.T) {
	s := start(t)
	ctx, _ := s.user(t, "portfolio:write")
	now := time.Now()
	ts := timestamppb.New
	for name, tc := range map[string]struct {
		request *portfoliov1.TakeSnapshotRequest
		field   string
	}{
		"no end":   {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now)}, "end_time"},
		"no start": {&portfoliov1.TakeSnapshotRequest{EndTime: ts(now)}, "start_time"},
		"an end before": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now), EndTime: ts(now.Add(-time.Hour))},
			"start_time"},
		"the future": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now), EndTime: ts(now.Add(time.Hour))},
			"end_time"},
		"six years": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now.AddDate(-6, 0, 0)),
			EndTime: ts(now)}, "start_time"},
		"a start that isn't": {&portfoliov1.TakeSnapshotRequest{StartTime: &timestamppb.Timestamp{Seconds: 1 << 60},
			EndTime: ts(now)}, "start_time"},
		"an end that isn't": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now),
			EndTime: &timestamppb.Timestamp{Nanos: -1}}, "end_time"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.TakeSnapshot(ctx, tc.request)
			e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
			if len(e.Violations) != 1 || e.Violations[0].Field != tc.field || e.Violations[0].Rule == "" {
				t.Errorf("violations %v, want one of %s", e.Violations, tc.field)
			}
		})
	}
	mine, _ := s.user(t, "portfolio:read", "portfolio:write")
	p, err := s.GetPortfolio(mine, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{PortfolioId: p.GetPortfolio().GetId(),
		StartTime: ts(now.Add(-time.Hour)), EndTime: ts(now)})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	if s.wallet.past.calls > 0 {
		t.Error("the wallet service was asked")
	}
}
