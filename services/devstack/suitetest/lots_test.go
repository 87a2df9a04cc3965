package suitetest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// trader imports what a wallet did with the chain's coin.
type trader struct {
	*testing.T
	c      *demo.Clients
	ctx    context.Context //nolint:containedctx // it is that of the test, with the trader's token
	wallet string
	coin   string
}

// imports is a movement of so many tenths of a coin, in or out.
func (tr trader) imports(tenths int64, way walletv1.Direction, at time.Time) {
	tr.Helper()
	amount := new(big.Int).Mul(big.NewInt(tenths), big.NewInt(1e17))
	got, err := tr.c.Transactions.ImportTransactions(tr.ctx, &walletv1.ImportTransactionsRequest{WalletId: tr.wallet,
		RequestId: uuid.NewString(), Transactions: []*walletv1.TransactionRow{{RowId: rand.Text(), TokenId: tr.coin,
			Direction: way, Amount: amount.String(), Time: timestamppb.New(at)}}})
	if err != nil || got.GetResult().GetStoredCount() != 1 {
		tr.Fatal(got, err)
	}
}

// price is that of a coin at the start of the hour of a time.
func (tr trader) price(at time.Time) *big.Rat {
	tr.Helper()
	hour := at.Truncate(time.Hour)
	got, err := tr.c.Prices.ListPriceHistory(tr.ctx, &walletv1.ListPriceHistoryRequest{TokenId: tr.coin,
		StartTime: timestamppb.New(hour), EndTime: timestamppb.New(hour.Add(time.Second))})
	if err != nil || len(got.GetPrices()) != 1 {
		tr.Fatal(got, err)
	}
	p, ok := new(big.Rat).SetString(got.GetPrices()[0].GetPrice().GetPrice())
	if !ok {
		tr.Fatalf("the price at %s is %v", hour, got)
	}
	return p
}

// worth is what so many tenths of a coin are at a price.
func worth(tenths int64, price *big.Rat) *big.Rat {
	return new(big.Rat).Mul(big.NewRat(tenths, 10), price)
}

// check holds the profit, the disposals, the open lots and the file of disposals against what was paid and got, and so
// many tenths of a coin that are left.
func (tr trader) check(proceeds, cost *big.Rat, left int64) {
	tr.Helper()
	options := &portfoliov1.LotOptions{Method: portfoliov1.LotMethod_LOT_METHOD_FIFO}
	pnl, err := tr.c.Lots.GetPnl(tr.ctx, &portfoliov1.GetPnlRequest{Options: options})
	if err != nil || len(pnl.GetRealized()) != 1 || pnl.GetState().GetUnpricedCount() != 0 {
		tr.Fatal(pnl, err)
	}
	gain := new(big.Rat).Sub(proceeds, cost).FloatString(8)
	if r := pnl.GetRealized()[0]; r.GetProceeds() != proceeds.FloatString(8) || r.GetCost() != cost.FloatString(8) ||
		r.GetGain() != gain {
		tr.Errorf("realized %v, want %s less %s", r, proceeds.FloatString(8), cost.FloatString(8))
	}
	disposals, err := tr.c.Lots.ListDisposals(tr.ctx, &portfoliov1.ListDisposalsRequest{Options: options})
	if err != nil {
		tr.Fatal(err)
	}
	sum := new(big.Rat)
	for _, p := range disposals.GetParts() {
		g, _ := new(big.Rat).SetString(p.GetGain())
		if g == nil {
			tr.Fatalf("the part %v has no gain", p)
		}
		sum.Add(sum, g)
	}
	if len(disposals.GetParts()) != 2 || sum.FloatString(8) != gain {
		tr.Errorf("the disposals are %v, want two that gain %s", disposals.GetParts(), gain)
	}
	open, err := tr.c.Lots.ListLots(tr.ctx, &portfoliov1.ListLotsRequest{Options: options})
	if err != nil {
		tr.Fatal(err)
	}
	rest := new(big.Int)
	for _, l := range open.GetLots() {
		n, _ := new(big.Int).SetString(l.GetQuantity(), 10)
		rest.Add(rest, n)
	}
	if want := new(big.Int).Mul(big.NewInt(left), big.NewInt(1e17)); rest.Cmp(want) != 0 {
		tr.Errorf("%s are left in %v, want %s", rest, open.GetLots(), want)
	}
	if rows := tr.file(options); rows != 2 {
		tr.Errorf("the file has %d disposals, want 2", rows)
	}
}

// file reads the file of disposals and returns how many rows it says that it has, and has.
func (tr trader) file(o *portfoliov1.LotOptions) int64 {
	tr.Helper()
	stream, err := tr.c.Lots.ExportLots(tr.ctx, &portfoliov1.ExportLotsRequest{Options: o,
		Format: portfoliov1.ExportFormat_EXPORT_FORMAT_CSV})
	if err != nil {
		tr.Fatal(err)
	}
	var text strings.Builder
	for rows := int64(-1); ; {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if lines := strings.Count(text.String(), "\n") - 1; int64(lines) != rows {
				tr.Errorf("the file has %d rows and says %d:\n%s", lines, rows, text.String())
			}
			return rows
		}
		if err != nil {
			tr.Fatal(err)
		}
		text.Write(part.GetData())
		if part.RowCount != nil {
			rows = part.GetRowCount()
		}
	}
}

// Movements that are imported into wallet are lots of portfolio in the next call, at the prices of their hours; one
// that is back-dated changes what follows it.
func TestImportedTransactionsAreLotsInTheNextCall(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	address := make([]byte, 20)
	_, _ = rand.Read(address)
	made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{
		Account: fmt.Sprintf("eip155:%d:0x%x", s.Chain.ChainID(), address)})
	if err != nil {
		t.Fatal(err)
	}
	tr := trader{t, c, ctx, made.GetWallet().GetId(), fmt.Sprintf("eip155:%d/slip44:60", s.Chain.ChainID())}
	now := time.Now().UTC().Truncate(time.Hour)
	first, second, sold := now.Add(-40*time.Hour), now.Add(-30*time.Hour), now.Add(-20*time.Hour)
	tr.imports(20, walletv1.Direction_DIRECTION_IN, first)
	tr.imports(10, walletv1.Direction_DIRECTION_IN, second)
	tr.imports(25, walletv1.Direction_DIRECTION_OUT, sold)
	proceeds := worth(25, tr.price(sold))
	tr.check(proceeds, new(big.Rat).Add(worth(20, tr.price(first)), worth(5, tr.price(second))), 5)

	before := first.Add(-5 * time.Hour)
	tr.imports(10, walletv1.Direction_DIRECTION_IN, before)
	tr.check(proceeds, new(big.Rat).Add(worth(10, tr.price(before)), worth(15, tr.price(first))), 15)
}
