package suitetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/prices"
	"github.com/purserhq/purser/services/devstack/suite"
)

// readHistory reads the history of a range page by page. It returns it with the number of pages.
func readHistory(t *testing.T, ctx context.Context, c *demo.Clients, from, until time.Time,
	size int32) (hours []*walletv1.HistoricalHoldings, pages int) {
	t.Helper()
	req := &walletv1.ListHistoricalHoldingsRequest{StartTime: timestamppb.New(from), EndTime: timestamppb.New(until),
		PageSize: size}
	last := "" // the wallet that was told of last
	for {
		resp, err := c.Holdings.ListHistoricalHoldings(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, h := range resp.GetHours() {
			n := len(hours)
			switch continues := n > 0 && hours[n-1].GetHourTime().AsTime().Equal(h.GetHourTime().AsTime()); {
			case continues:
				mergePages(hours[n-1], h, last)
			case h.GetOnlyChanges():
				hours = append(hours, withUnchanged(h, hours[n-1]))
			default:
				hours = append(hours, h)
			}
			if told := h.GetWallets(); len(told) > 0 {
				last = told[len(told)-1].GetWalletId()
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return hours, pages
		}
	}
}

// withUnchanged returns an hour that has only changes with the wallets that are as in the hour before.
func withUnchanged(h, before *walletv1.HistoricalHoldings) *walletv1.HistoricalHoldings {
	whole := &walletv1.HistoricalHoldings{HourTime: h.GetHourTime(), Prices: h.GetPrices(), Blocks: h.GetBlocks()}
	for _, w := range before.GetWallets() {
		if i := slices.IndexFunc(h.GetWallets(), func(c *walletv1.WalletHoldings) bool {
			return c.GetWalletId() == w.GetWalletId()
		}); i >= 0 {
			w = h.GetWallets()[i]
		}
		whole.Wallets = append(whole.Wallets, w)
	}
	return whole
}

// mergePages adds the second part of an hour that was split by a page to the first, which ended with the wallet last.
func mergePages(a, b *walletv1.HistoricalHoldings, last string) {
	a.Prices = append(a.Prices, b.GetPrices()...)
	for _, w := range b.GetWallets() {
		i := slices.IndexFunc(a.GetWallets(), func(c *walletv1.WalletHoldings) bool {
			return c.GetWalletId() == w.GetWalletId()
		})
		switch {
		case i < 0:
			a.Wallets = append(a.Wallets, w)
		case w.GetWalletId() == last:
			a.Wallets[i].Holdings = append(a.Wallets[i].Holdings, w.GetHoldings()...)
		default:
			a.Wallets[i] = w
		}
	}
}

// checkHistoricalHoldings compares a history with the chain's plan and the feed's prices.
func checkHistoricalHoldings(t *testing.T, s *suite.Suite, hours []*walletv1.HistoricalHoldings, from, until time.Time,
	wallets map[string]common.Address) {
	t.Helper()
	assets := map[string]common.Address{"ETH": chain.Native()}
	symbols := map[string]string{fmt.Sprintf("eip155:%d/slip44:60", s.Chain.ChainID()): "ETH"}
	for _, token := range s.Chain.Tokens() {
		assets[token.Symbol] = token.Address
		id := fmt.Sprintf("eip155:%d/erc20:%s", s.Chain.ChainID(), strings.ToLower(token.Address.Hex()))
		symbols[id] = token.Symbol
	}
	if want := int(until.Sub(from) / time.Hour); len(hours) != want {
		t.Fatalf("%d hours, want %d", len(hours), want)
	}
	for i, h := range hours {
		at := from.Add(time.Duration(i) * time.Hour)
		if !h.GetHourTime().AsTime().Equal(at) || len(h.GetWallets()) != len(wallets) {
			t.Fatalf("hour %s has %d wallets, want %s and %d", h.GetHourTime().AsTime(), len(h.GetWallets()), at,
				len(wallets))
		}
		pricesOf := map[string]*walletv1.Price{}
		for _, p := range h.GetPrices() {
			pricesOf[p.GetTokenId()] = p
		}
		for _, w := range h.GetWallets() {
			if w.GetSync().GetState() != walletv1.SyncState_SYNC_STATE_SYNCED ||
				w.GetSync().GetSyncTime().AsTime().After(at) {
				t.Fatalf("%s: sync %v", at, w.GetSync())
			}
			held := map[string]string{}
			for _, row := range w.GetHoldings() {
				symbol := symbols[row.GetTokenId()]
				held[symbol] = row.GetAmount()
				checkHistoricalPrice(t, symbol, pricesOf[row.GetTokenId()], at)
			}
			for symbol, asset := range assets {
				want := ""
				if b := s.Chain.Expected(wallets[w.GetWalletId()], asset, at); !b.IsZero() {
					want = b.Dec()
				}
				if held[symbol] != want {
					t.Fatalf("%s: %s of %s is %q, the chain was seeded with %q", at, symbol, w.GetAccount(),
						held[symbol], want)
				}
			}
		}
	}
}

func checkHistoricalPrice(t *testing.T, symbol string, p *walletv1.Price, at time.Time) {
	t.Helper()
	want, ok := prices.PriceAt(symbol, at)
	if !ok {
		if p.GetUnpricedReason() != "NO_PRICE" || p.GetPrice() != "" {
			t.Fatalf("%s: price %v of %s", at, p, symbol)
		}
		return
	}
	if p.GetStale() || rat(t, p.GetPrice()).Cmp(rat(t, want)) != 0 || p.GetPriceTime().AsTime().After(at) {
		t.Fatalf("%s: price %v of %s, the feed was seeded with %s", at, p, symbol, want)
	}
}

// withHolders signs in a user with wallets of the chain's holders and of an empty account. It returns the addresses
// by wallet id.
func withHolders(t *testing.T, s *suite.Suite, c *demo.Clients) (context.Context, map[string]common.Address) {
	t.Helper()
	ctx, _ := signIn(t, c)
	wallets := map[string]common.Address{}
	for _, address := range append(s.Chain.Holders(), common.Address{19: 0xee}) {
		made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account(s, address)})
		if err != nil {
			t.Fatal(err)
		}
		wallets[made.GetWallet().GetId()] = address
	}
	return ctx, wallets
}

func TestHistoricalHoldingsMatchChainAndPriceFeed(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, wallets := withHolders(t, s, c)
	until := s.Chain.Head().Time.Truncate(time.Hour)
	from := s.Chain.Plan().Start
	hours, _ := readHistory(t, ctx, c, from, until, 0)
	checkHistoricalHoldings(t, s, hours, from, until, wallets)

	t.Run("again, from the stored history, in pages of any size", func(t *testing.T) {
		asked := s.Prices.ChartRequests()
		for _, size := range []int32{1, 7, 2000} {
			until := from.Add(30 * time.Hour)
			hours, pages := readHistory(t, ctx, c, from, until, size)
			checkHistoricalHoldings(t, s, hours, from, until, wallets)
			if pages < 200/int(size) {
				t.Errorf("%d pages of %d rows", pages, size)
			}
		}
		if now := s.Prices.ChartRequests(); now != asked {
			t.Errorf("%d more requests to the feed", now-asked)
		}
	})
	t.Run("before the chain there are no holdings", func(t *testing.T) {
		hours, _ := readHistory(t, ctx, c, from.Add(-5*time.Hour), from, 0)
		if len(hours) != 5 {
			t.Fatalf("%d hours", len(hours))
		}
		for _, h := range hours {
			for _, w := range h.GetWallets() {
				if len(w.GetHoldings()) > 0 || w.GetSync().GetState() != walletv1.SyncState_SYNC_STATE_SYNCED ||
					w.GetSync().GetSyncTime() != nil {
					t.Errorf("%s: %v", h.GetHourTime().AsTime(), w)
				}
			}
		}
	})
	t.Run("invalid ranges", func(t *testing.T) {
		now := time.Now()
		for name, r := range map[string][2]time.Time{
			"start_time": {until, until}, "end_time": {until, now.Add(time.Hour)},
			"start_time ":  {now.AddDate(-5, 0, -1), now},
			"start_time  ": {time.Date(2014, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2014, 1, 2, 0, 0, 0, 0, time.UTC)},
		} {
			_, err := c.Holdings.ListHistoricalHoldings(ctx,
				&walletv1.ListHistoricalHoldingsRequest{StartTime: timestamppb.New(r[0]),
					EndTime: timestamppb.New(r[1])})
			if e := wantError(t, err, codes.InvalidArgument, "INVALID_ARGUMENT"); e.Violations[0].Field !=
				strings.TrimSpace(name) {
				t.Errorf("%q: %v", name, e)
			}
		}
	})
}

// Ninety days of two wallets, as portfolio's backfill reads them; nine days unless PURSER_PROVE is set.
func TestNinetyDaysOfHoldingsAreReadInAMinute(t *testing.T) {
	t.Parallel()
	days := testkit.Size(9, 90)
	s := start(t, func(o *suite.Options) { o.History = time.Duration(days) * 24 * time.Hour })
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	for _, address := range s.Chain.Holders() {
		if _, err := c.Wallets.CreateWallet(ctx,
			&walletv1.CreateWalletRequest{Account: account(s, address)}); err != nil {
			t.Fatal(err)
		}
	}
	until := s.Chain.Head().Time.Truncate(time.Hour)
	for _, what := range []string{"read", "read again, from the stored history"} {
		begun := time.Now()
		hours, pages := readHistory(t, ctx, c, until.AddDate(0, 0, -days), until, 2000)
		took := time.Since(begun)
		testkit.Figure(t, "%d days of 2 wallets %s: %d hours in %d pages, %s", days, what, len(hours), pages,
			took.Round(10*time.Millisecond))
		if len(hours) != days*24 || took > time.Minute {
			t.Errorf("%d hours in %s", len(hours), took)
		}
	}
	fmt.Fprintln(t.Output(), s.Prices.ChartRequests(), "requests to the feed")
}
