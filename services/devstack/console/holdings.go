package console

import (
	"context"
	"math/big"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/internal/terminal"
)

// portfolio is the data of the section "holdings".
type portfolio struct {
	Total, Currency string
	Positions       []position
	// Time of the valuation.
	Time time.Time
	// Incomplete says why the value is incomplete; empty for a complete one.
	Incomplete []incompleteness
	// SnapshotTime is set if the values are those of a snapshot and not of now.
	SnapshotTime time.Time
}

// incompleteness is a reason why a value is incomplete, with what it means where the reason is a code.
type incompleteness struct{ Reason, Meaning string }

type position struct {
	ID, Symbol, Amount, Price, Value, Share, Source string
	PriceTime                                       time.Time
	// Place says what it is in a protocol; "" of a token in wallets.
	Place string
	Stale bool
	// Note says why the position does not count; "" if it does.
	Note string
	// Meaning explains the note; may be "".
	Meaning string
	// Left and Width place the share in the bar of the allocation, in percent.
	Left, Width float64
}

func (s *services) holdings(ctx context.Context, currency string) (any, error) {
	resp, err := portfoliov1.NewPortfolioServiceClient(s.portfolio).GetValuation(ctx,
		&portfoliov1.GetValuationRequest{Currency: currency})
	if err != nil {
		return nil, err
	}
	return portfolioOf(resp.GetValuation())
}

// portfolioOf returns a valuation as it is shown. One that is stale is the data of an error.
func portfolioOf(v *portfoliov1.Valuation) (any, error) {
	p := portfolio{Total: v.GetTotal(), Currency: v.GetCurrency(), Time: moment(v.GetValuationTime())}
	for _, reason := range v.GetIncompleteReasons() {
		p.Incomplete = append(p.Incomplete, incompleteness{reason, meaning(reason)})
	}
	left := 0.0
	for _, held := range v.GetPositions() {
		row := position{
			ID: held.GetTokenId(), Symbol: held.GetSymbol(),
			Amount: demo.Amount(held.GetAmount(), int(held.GetDecimals())),
			Price:  terminal.Money(held.GetPrice()),
			Place:  demo.Place(held),
			Value:  fiat(held.GetValue()), Source: held.GetPriceSource(), PriceTime: moment(held.GetPriceTime()),
			Stale: held.GetPriceStale(),
			Left:  left, Width: 100 * held.GetShare(),
		}
		switch {
		case held.GetUnpricedReason() != "":
			row.Note, row.Meaning = held.GetUnpricedReason(), meaning(held.GetUnpricedReason())
		case !held.GetVerified():
			row.Note = "not verified"
		}
		left += row.Width
		p.Positions = append(p.Positions, row)
	}
	if v.GetStale() {
		p.SnapshotTime = moment(v.GetValuationTime())
		return nil, &dependencyError{service: "wallet", data: p, dataTime: p.SnapshotTime}
	}
	return p, nil
}

// meaning explains a text that ends with the code of a missing price; "" for any other.
func meaning(reason string) string {
	return map[string]string{
		"UNKNOWN_TOKEN":      "the token is not on the deployment's token list",
		"NO_PRICE":           "the price source has no price for this token",
		"SOURCE_UNAVAILABLE": "the price source does not answer, and no earlier price is known",
		"VALUE_OUT_OF_RANGE": "the value is 1e30 or more",
	}[reason[strings.LastIndexByte(reason, ' ')+1:]]
}

// maxPages bounds how much of a long list is read.
const maxPages = 5

// walletRow is a wallet of the section "wallets".
type walletRow struct {
	ID, Account, Label string
	// Value of its verified holdings and its positions that have a price, less what it owes, formatted; Share of the
	// sum of all wallets, in percent.
	Value string
	Share float64
	// Tokens it holds, and how many of them are not in Value.
	Tokens, Unpriced, Unverified int
	// Sync is the state of the last sync: pending, syncing, synced or failed.
	Sync, SyncError     string
	SyncTime, RetryTime time.Time
	Block               uint64

	exact *big.Rat
}

// Short is the account with the middle of its address left out.
func (w walletRow) Short() string { return shortAccount(w.Account) }

// shortAccount is an account with the middle of its address left out.
func shortAccount(account string) string {
	if len(account) < 24 {
		return account
	}
	return account[:len(account)-36] + "…" + account[len(account)-4:]
}

// rateOf returns what one unit of a currency is worth in US dollars.
func (s *services) rateOf(ctx context.Context, currency string) (*big.Rat, error) {
	if currency == "USD" {
		return big.NewRat(1, 1), nil
	}
	resp, err := walletv1.NewPriceServiceClient(s.wallet).GetPrices(ctx,
		&walletv1.GetPricesRequest{TokenIds: []string{currency}})
	if err != nil {
		return nil, err
	}
	rate, known := new(big.Rat).SetString(resp.GetPrices()[0].GetPrice())
	if !known || rate.Sign() <= 0 {
		return nil, errs.FailedPrecondition("NO_RATE", currency+" has no rate: "+
			resp.GetPrices()[0].GetUnpricedReason())
	}
	return rate, nil
}

// wallets asks for each wallet's holdings and labels.
func (s *services) wallets(ctx context.Context, currency string) (any, error) {
	rate, err := s.rateOf(ctx, currency)
	if err != nil {
		return nil, err
	}
	labels, err := s.labels(ctx)
	if err != nil {
		return nil, err
	}
	client := walletv1.NewHoldingsServiceClient(s.wallet)
	rows, total := []walletRow{}, new(big.Rat)
	for page, token := 0, ""; page == 0 || token != "" && page < maxPages; page++ {
		resp, err := client.GetHoldings(ctx, &walletv1.GetHoldingsRequest{PageSize: 2000, PageToken: token})
		if err != nil {
			return nil, err
		}
		tokens, prices := map[string]*walletv1.Token{}, map[string]*walletv1.Price{}
		for _, t := range resp.GetTokens() {
			tokens[t.GetId()] = t
		}
		for _, p := range resp.GetPrices() {
			prices[p.GetTokenId()] = p
		}
		for _, w := range resp.GetWallets() {
			if len(rows) == 0 || rows[len(rows)-1].ID != w.GetWalletId() { // otherwise it continues on this page
				rows = append(rows, newWalletRow(w, labels[w.GetWalletId()]))
			}
			rows[len(rows)-1].add(w, tokens, prices, total)
		}
		token = resp.GetNextPageToken()
	}
	total.Quo(total, rate)
	for i := range rows {
		rows[i].exact.Quo(rows[i].exact, rate)
		rows[i].Value = fiat(rows[i].exact.FloatString(8))
		if total.Sign() > 0 {
			rows[i].Share, _ = new(big.Rat).Quo(rows[i].exact, total).Float64()
			rows[i].Share *= 100
		}
	}
	return rows, nil
}

// labels returns the labels of the wallets by their id.
func (s *services) labels(ctx context.Context) (map[string]string, error) {
	client, labels := walletv1.NewWalletServiceClient(s.wallet), map[string]string{}
	for page, token := 0, ""; page == 0 || token != "" && page < maxPages; page++ {
		resp, err := client.ListWallets(ctx, &walletv1.ListWalletsRequest{PageSize: 200, PageToken: token})
		if err != nil {
			return nil, err
		}
		for _, w := range resp.GetWallets() {
			labels[w.GetId()] = w.GetLabel()
		}
		token = resp.GetNextPageToken()
	}
	return labels, nil
}

func newWalletRow(w *walletv1.WalletHoldings, label string) walletRow {
	return walletRow{
		ID: w.GetWalletId(), Account: w.GetAccount(), Label: label,
		Sync:      strings.ToLower(strings.TrimPrefix(w.GetSync().GetState().String(), "SYNC_STATE_")),
		SyncError: w.GetSync().GetError(), SyncTime: moment(w.GetSync().GetSyncTime()),
		RetryTime: moment(w.GetSync().GetRetryTime()), Block: w.GetSync().GetBlockNumber(), exact: new(big.Rat),
	}
}

// add counts what a wallet holds and has in protocols, of these tokens and prices, in its value and in that of all
// wallets. A token that stands for a position is counted by it.
func (w *walletRow) add(of *walletv1.WalletHoldings, tokens map[string]*walletv1.Token,
	prices map[string]*walletv1.Price, total *big.Rat) {
	count := func(id, text string, known, owed bool) {
		amount, ok := new(big.Int).SetString(text, 10)
		price, priced := new(big.Rat).SetString(prices[id].GetPrice())
		switch {
		case !known:
			w.Unverified++
		case !ok || !priced || tokens[id] == nil:
			w.Unpriced++
		default:
			unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(tokens[id].GetDecimals())), nil)
			value := price.Mul(price, new(big.Rat).SetFrac(amount, unit))
			if owed {
				value.Neg(value)
			}
			w.exact.Add(w.exact, value)
			total.Add(total, value)
		}
	}
	for _, h := range of.GetHoldings() {
		w.Tokens++
		if !h.GetReceipt() {
			count(h.GetTokenId(), h.GetAmount(), tokens[h.GetTokenId()].GetVerified(), false)
		}
	}
	for _, m := range of.GetPositions() {
		for _, p := range m.GetPositions() {
			count(p.GetTokenId(), p.GetAmount(), true, p.GetKind() == walletv1.PositionKind_POSITION_KIND_BORROWED)
		}
	}
}

// moment converts a timestamp; unset gives the zero time.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
