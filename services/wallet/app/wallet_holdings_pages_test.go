package app_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// 4000 holdings whose tokens have long names are more than a page may have: it ends earlier, and nothing is left out.
func TestPagesOfHoldingsEndByTheirBytes(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	const wallets, tokens = 2, 2000
	s.hold(t, ctx, wallets, tokens)
	s.exec(t, "UPDATE tokens SET name = repeat('n', 400), symbol = symbol || repeat('s', 60) WHERE symbol LIKE 'TKN%'")
	seen, pages := map[string]bool{}, 0
	for token := ""; ; {
		resp, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{PageSize: 10_000, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if pages++; proto.Size(resp) > page.MaxBytes {
			t.Errorf("page %d has %d bytes", pages, proto.Size(resp))
		}
		for _, w := range resp.GetWallets() {
			for _, h := range w.GetHoldings() {
				key := w.GetWalletId() + h.GetTokenId()
				if seen[key] {
					t.Fatalf("%s is there twice", key)
				}
				seen[key] = true
			}
		}
		if token = resp.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(seen) != wallets*tokens || pages < 2 {
		t.Errorf("%d holdings in %d pages", len(seen), pages)
	}
}
