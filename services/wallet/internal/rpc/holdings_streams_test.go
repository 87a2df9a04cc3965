package rpc

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// A message ends by its bytes as well as by its rows.
func TestAMessageOfAShardHasAtMostOneMebibyte(t *testing.T) {
	var rows []holding.Row
	for range 100 {
		rows = append(rows, holding.Row{Wallet: &wallet.Wallet{ID: uuid.New(), Owner: uuid.New(),
			Sync: wallet.Sync{State: wallet.Failed, Error: strings.Repeat("x", 50_000)}}})
	}
	messages := 0
	for left := rows; len(left) > 0; messages++ {
		held := newHoldingsPage()
		n := held.fill(left)
		size := proto.Size(&walletv1.StreamHoldingsResponse{Owners: held.owners, Cursor: strings.Repeat("c", 1024)})
		if n < 1 || size > page.MaxBytes {
			t.Fatalf("%d rows in %d bytes", n, size)
		}
		left = left[n:]
	}
	if messages != 5 {
		t.Errorf("100 rows of 50 kB are in %d messages", messages)
	}
}
