package app_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// priceChanges are the next n changes of a stream, with the hours of those of prices counted from a time.
func priceChanges(t *testing.T, stream walletv1.HoldingsService_WatchChangesClient, from time.Time,
	n int) (out []string) {
	t.Helper()
	for len(out) < n {
		m, err := stream.Recv()
		if err != nil {
			t.Fatalf("%v after %q", err, out)
		}
		for _, c := range m.GetChanges() {
			if c.GetKind() != walletv1.ChangeKind_CHANGE_KIND_PRICES_CHANGED {
				out = append(out, c.GetKind().String())
				continue
			}
			if c.GetOwnerId() != "" || c.GetWalletId() != "" {
				t.Errorf("a change of prices has an owner or a wallet: %v", c)
			}
			out = append(out, fmt.Sprint(c.GetTokenId(), " ", c.GetStartTime().AsTime().Sub(from).Hours(), " ",
				c.GetEndTime().AsTime().Sub(from).Hours()))
		}
	}
	return out
}

// What a source mends, a gap that it fills, and what is imported are changes of prices, one for a stretch of hours of
// a token. The first reading of an hour is none. Every shard has them, and the streams of users have none.
func TestAChangedPriceIsOneChangeInTheStreamsOfShards(t *testing.T) {
	s, f, _ := startPriced(t, "imported,llama", "PURSER_PRICE_BRIDGE=3h", "PURSER_PRICE_STALE=2h")
	service, ada := s.may(t, "wallet:read", "wallet:any"), s.user(t)
	from := lastHour().Add(-100 * time.Hour)
	shard := func(number, count int32) walletv1.HoldingsService_WatchChangesClient {
		stream, _ := s.watch(service, t, &walletv1.WatchChangesRequest{
			Shard: &walletv1.Shard{Number: number, Count: count}})
		kinds(t, stream, 0)
		return stream
	}
	all, other := shard(0, 1), shard(1, 2)
	own, _ := s.watch(ada, t, &walletv1.WatchChangesRequest{})
	kinds(t, own, 0)
	list := func(price string) {
		t.Helper()
		for i, p := range s.pricesOf(t, etherID, "", from, 20) {
			if i < 2 && priceText(p) != price {
				t.Errorf("hour %d: %v, want %s", i, p, price)
			}
		}
	}
	f.set(func(f *priceFeeds) { f.llama[llamaEther] = "5" })
	list("5 USD llama")

	// The source has mended hours 0 to 3 and 10: as if they had been read too early.
	f.set(func(f *priceFeeds) { f.llama[llamaEther] = "6" })
	early := `UPDATE price_history SET fetched_at = hour WHERE hour < $1 OR hour = $2`
	s.exec(t, early, from.Add(4*time.Hour), from.Add(10*time.Hour))
	list("6 USD llama")
	want := []string{etherID + " 0 4", etherID + " 10 11"}
	if got := priceChanges(t, all, from, 2); !slices.Equal(got, want) {
		t.Errorf("mended: %q, want %q", got, want)
	}
	// An hour that had no price has one now.
	s.exec(t, `UPDATE price_history SET price = NULL, price_time = NULL, fetched_at = hour WHERE hour = $1`,
		from.Add(7*time.Hour))
	list("6 USD llama")
	if got := priceChanges(t, all, from, 1); !slices.Equal(got, []string{etherID + " 7 8"}) {
		t.Errorf("a gap that was filled: %q", got)
	}

	// Fifty imported prices are one stretch, up to what the last may be used at; one apart is another.
	var rows []*walletv1.ImportedPrice
	for i := range 50 {
		rows = append(rows, &walletv1.ImportedPrice{TokenId: etherID, Price: "7",
			PriceTime: timestamppb.New(from.Add(time.Duration(i) * time.Hour))})
	}
	rows = append(rows, &walletv1.ImportedPrice{TokenId: etherID, Price: "7",
		PriceTime: timestamppb.New(from.Add(70*time.Hour + time.Minute))})
	request := &walletv1.ImportPricesRequest{RequestId: uuid.NewString(), Prices: rows, Replace: true}
	importer := s.may(t, "prices:import")
	for range 2 { // the second call is answered, and stores nothing
		resp, err := s.prices.ImportPrices(importer, request)
		if err != nil || resp.GetImportedCount() != 51 {
			t.Fatal(resp, err)
		}
	}
	want = []string{etherID + " 0 53", etherID + " 71 74"}
	if got := priceChanges(t, all, from, 2); !slices.Equal(got, want) {
		t.Errorf("imported: %q, want %q", got, want)
	}
	s.create(ada, t, account)
	if got := priceChanges(t, own, from, 1); !slices.Equal(got, []string{"CHANGE_KIND_WALLET_CREATED"}) {
		t.Errorf("a user's stream has %q", got)
	}
	if got := priceChanges(t, other, from, 5); len(got) < 5 || got[0] != etherID+" 0 4" {
		t.Errorf("the other shard has %q", got)
	}
}

// While the sources that come before imported prices can't be asked, what an import may change is not told as if it
// were decided.
func TestAnHourThatAnImportMayChangeIsUndecidedWhileTheSourcesAreAway(t *testing.T) {
	s, f, _ := startPriced(t, "llama,imported")
	from := lastHour().Add(-50 * time.Hour)
	if p := s.pricesOf(t, etherID, "", from, 2)[0]; priceText(p) != "NO_PRICE" {
		t.Fatal(p)
	}
	f.set(func(f *priceFeeds) { f.status = 500 })
	_, err := s.prices.ImportPrices(s.may(t, "prices:import"), &walletv1.ImportPricesRequest{
		RequestId: uuid.NewString(), Prices: []*walletv1.ImportedPrice{{TokenId: etherID, Price: "7",
			PriceTime: timestamppb.New(from)}}})
	if err != nil {
		t.Fatal(err)
	}
	if p := s.pricesOf(t, etherID, "", from, 2)[0]; priceText(p) != "SOURCE_UNAVAILABLE" &&
		priceText(p) != "7 USD imported" {
		t.Errorf("while the source is away: %v", p)
	}
}
