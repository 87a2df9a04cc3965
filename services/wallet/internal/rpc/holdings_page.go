package rpc

import (
	"maps"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// maxHoldingsBytes is how large the holdings of a page or message are at most: page.MaxBytes without the token or
	// cursor of the next one.
	maxHoldingsBytes = page.MaxBytes - 4<<10
	// messageOverhead is what the encoding of a message in another one takes beside its own bytes, and ownerBytes an
	// owner's or an hour's own.
	messageOverhead, ownerBytes = 8, 64
	// holdingsAtOnce is of how many holdings the memory is taken at once.
	holdingsAtOnce = 64
)

// holdingsPage is the content of a page or message, to which rows are added until it is full.
type holdingsPage struct {
	owners []*walletv1.OwnerHoldings
	tokens map[string]*walletv1.Token
	prices map[string]*walletv1.Price
	size   int
	rows   int

	owner, wallet uuid.UUID // of the last row

	free []walletv1.Holding     // made together, for the next rows
	time *timestamppb.Timestamp // of the last block: those of a wallet are mostly the same one
}

// priced is a token with its price.
type priced struct {
	token *walletv1.Token
	price *walletv1.Price
}

func newHoldingsPage() *holdingsPage {
	return &holdingsPage{tokens: map[string]*walletv1.Token{}, prices: map[string]*walletv1.Price{}}
}

// fill adds rows, which are in order, until one doesn't fit, and returns how many: at least one to an empty page.
func (p *holdingsPage) fill(rows []holding.Row) int {
	for i := range rows {
		if !p.add(&rows[i]) {
			return i
		}
	}
	return len(rows)
}

func (p *holdingsPage) add(r *holding.Row) bool {
	size := 0
	var o *walletv1.OwnerHoldings
	var w *walletv1.WalletHoldings
	var h *walletv1.Holding
	var added []priced // that are not on the page yet
	need := func(k token.Token, q price.Quote) {
		if p.tokens[k.ID] != nil || slices.ContainsFunc(added, func(a priced) bool { return a.token.Id == k.ID }) {
			return
		}
		a := priced{tokenToProto(k), quoteToProto(q)}
		size += proto.Size(a.token) + proto.Size(a.price) + 2*messageOverhead
		added = append(added, a)
	}
	if p.rows == 0 || r.Wallet.Owner != p.owner {
		o = &walletv1.OwnerHoldings{OwnerId: r.Wallet.Owner.String()}
		size += ownerBytes
	}
	if p.rows == 0 || r.Wallet.ID != p.wallet {
		w = walletHoldings(r.Wallet)
		for i := range r.Positions {
			w.Positions = append(w.Positions, marketToProto(r.Wallet.ID, &r.Positions[i]))
		}
		for _, a := range r.Assets {
			need(a.Token, a.Quote)
		}
		size += proto.Size(w) + messageOverhead
	}
	if r.Balance != nil {
		h = p.holding(r.Balance)
		size += proto.Size(h) + messageOverhead
		need(r.Balance.Token, r.Quote)
	}
	if p.size+size > maxHoldingsBytes && p.rows > 0 {
		return false
	}
	p.size += size
	p.rows++
	p.owner, p.wallet = r.Wallet.Owner, r.Wallet.ID
	if o != nil {
		p.owners = append(p.owners, o)
	}
	last := p.owners[len(p.owners)-1]
	if w != nil {
		last.Wallets = append(last.Wallets, w)
	}
	for _, a := range added {
		p.tokens[a.token.Id], p.prices[a.token.Id] = a.token, a.price
	}
	if h != nil {
		of := last.Wallets[len(last.Wallets)-1]
		of.Holdings = append(of.Holdings, h)
	}
	return true
}

// wallets of the only owner.
func (p *holdingsPage) wallets() []*walletv1.WalletHoldings {
	if len(p.owners) == 0 {
		return nil
	}
	return p.owners[0].GetWallets()
}

// byID returns messages in the order of their ids.
func byID[M any](messages map[string]M) []M {
	out := make([]M, 0, len(messages))
	for _, id := range slices.Sorted(maps.Keys(messages)) {
		out = append(out, messages[id])
	}
	return out
}

// walletHoldings is a wallet without its holdings.
func walletHoldings(w *wallet.Wallet) *walletv1.WalletHoldings {
	return &walletv1.WalletHoldings{WalletId: w.ID.String(), Account: w.Account.Display(), Sync: syncToProto(w.Sync)}
}

func (p *holdingsPage) holding(b *wallet.Balance) *walletv1.Holding {
	if len(p.free) == 0 {
		p.free = make([]walletv1.Holding, holdingsAtOnce)
	}
	h := &p.free[0]
	p.free = p.free[1:]
	if p.time == nil || !p.time.AsTime().Equal(b.Block.Time) {
		p.time = timestamppb.New(b.Block.Time)
	}
	h.TokenId, h.Amount, h.BlockNumber, h.BlockTime = b.Token.ID, b.Amount.Dec(), b.Block.Number, p.time
	h.Imported, h.Receipt = b.Imported, b.Receipt
	return h
}
