package history

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Page is hours of a history, in order and without a gap. The first hour is in full: from its first row on, or from
// the one after the cursor that the page was asked for with.
type Page struct{ Hours []Hour }

// Hour is an hour of a page.
type Hour struct {
	Time time.Time
	// Rows by wallet and token, without quotes, as holding.Store has them. Balances have no block: it is that of the
	// wallet's Sync.
	Rows []holding.Row
	// OnlyChanges: Rows are those of wallets that differ from the hour before, in what they hold or in the state or
	// the error of Sync. The block of the others is in Blocks.
	OnlyChanges bool
	// Quotes of all that the wallets held, by token id.
	Quotes []price.Quote
	// Blocks are the last ones at or before the hour, by chain.
	Blocks []ChainBlock
}

// ChainBlock is a block of a chain, without a hash; the zero block when the chain began later.
type ChainBlock struct {
	Chain uint64
	block.Block
}

// CursorAt returns the cursor of a row of an hour.
func CursorAt(hour time.Time, r holding.Row) *Cursor {
	c := &Cursor{Hour: hour.Unix(), Wallet: r.Wallet.ID}
	if r.Balance != nil {
		c.Token = r.Balance.Token.ID
	}
	return c
}

// pageBuilder makes a page of the hours that are added, until it is full.
type pageBuilder struct {
	wallets ownerWallets
	chains  []uint64
	after   Cursor
	limit   int
	stale   time.Duration

	page         Page
	next         *Cursor // set when the page is full
	rows, prices int
	firstRows    int // of the first hour
	shown        map[uuid.UUID]*shownWallet
	held         map[string]int // by token: how many wallets hold it
	heldIDs      []string       // of held, in order; nil when that has changed
}

// shownWallet is a wallet as it is in the last hour of the page.
type shownWallet struct {
	known bool // it is in that hour
	held  map[string]uint256.Int
	// held are those of these steps at this version of theirs.
	steps     *Amounts
	version   int
	positions []defi.Reading
	state     wallet.SyncState
	err       string
}

// tokens calls each with every token that it holds, also in positions: with one in both twice.
func (w *shownWallet) tokens(each func(id string)) {
	for id := range w.held {
		each(id)
	}
	for id := range defi.Assets(w.positions) {
		each(id)
	}
}

func newPageBuilder(w ownerWallets, after Cursor, limit int, stale time.Duration) *pageBuilder {
	chains := slices.Sorted(maps.Keys(w.tokens))
	return &pageBuilder{wallets: w, chains: chains, after: after, limit: limit, stale: stale,
		shown: map[uuid.UUID]*shownWallet{}, held: map[string]int{}}
}

// room is for how many rows there is room.
func (b *pageBuilder) room() int { return b.limit - b.rows }

// rowsPerHour is how many rows an hour after the first has; 0 while there are fewer than minimum.
func (b *pageBuilder) rowsPerHour(minimum int) int {
	hours := len(b.page.Hours) - 1
	if hours+1 < minimum || hours < 1 {
		return 0
	}
	return max(1, (b.rows-b.firstRows+hours-1)/hours)
}

// add adds the hours of a span. Failures are the errors of wallets' hours that can't be read: what is stored of them
// may lack balances.
func (b *pageBuilder) add(past Past, sp span, failures map[WalletHour]string) {
	steps := map[uuid.UUID]*Amounts{}
	for id, p := range past.Wallets {
		steps[id] = p.Steps()
	}
	for _, hour := range sp.hours() {
		if b.next != nil {
			return
		}
		b.addHour(past, hour, steps, failures)
	}
}

func (b *pageBuilder) addHour(past Past, at time.Time, steps map[uuid.UUID]*Amounts, failures map[WalletHour]string) {
	h := Hour{Time: at, OnlyChanges: len(b.page.Hours) > 0}
	blocks := map[uint64]*block.Block{}
	for _, chain := range b.chains {
		if found, ok := past.Blocks[ChainHour{chain, at.Unix()}]; ok {
			blocks[chain] = &found
		}
	}
	for i := range b.wallets.all {
		w := &b.wallets.all[i]
		is, sync := b.walletAt(w, at, blocks[w.Account.Chain], past.Wallets[w.ID], steps[w.ID], failures)
		if changed := b.show(w.ID, is); is.known && (changed || !h.OnlyChanges) {
			then := *w
			then.Sync = sync
			h.Rows = b.appendRows(h.Rows, past, at, &then, is)
		}
	}
	rows := max(1, len(h.Rows))
	h.Quotes = b.quotes(past, at)
	full := b.rows+rows > b.limit || b.prices+len(h.Quotes) > maxPagePrices
	if full && len(b.page.Hours) > 0 && (b.rows >= b.limit || len(h.Rows) == 0 ||
		b.prices+len(h.Quotes) > maxPagePrices) {
		b.next = &Cursor{Hour: at.Unix()} // the next page begins with this hour
		return
	}
	if room := b.limit - b.rows; len(h.Rows) > room {
		h.Rows = h.Rows[:room]
		b.next = CursorAt(at, h.Rows[room-1])
	}
	for _, chain := range b.chains {
		if found := blocks[chain]; found != nil {
			h.Blocks = append(h.Blocks, ChainBlock{chain, *found})
		}
	}
	b.rows, b.prices = b.rows+rows, b.prices+len(h.Quotes)
	if len(b.page.Hours) == 0 {
		b.firstRows = rows
	}
	b.page.Hours = append(b.page.Hours, h)
}

// walletAt returns a wallet as it was at an hour, and its Sync. found is the chain's block of then; nil when the chain
// began later or is not known.
func (b *pageBuilder) walletAt(w *wallet.Wallet, at time.Time, found *block.Block, past *WalletPast,
	steps *Amounts, failures map[WalletHour]string) (is shownWallet, sync wallet.Sync) {
	text, failed := failures[WalletHour{w.ID, at.Unix()}]
	if steps != nil {
		var unread string
		if is.known, unread = steps.At(at.Unix()); is.known {
			sync = wallet.Sync{State: wallet.Synced, Error: unread}
			if found != nil {
				sync.Block = found.Number
			}
			if found != nil && !found.Time.IsZero() { // the chain had begun
				sync.At = &found.Time
				is.held, is.steps, is.version = steps.Held, steps, steps.Version
				is.positions = past.Positions[at.Unix()]
			}
		}
	}
	if failed {
		is.known = true
		sync.State, sync.Error = wallet.Failed, text
	}
	is.state, is.err = sync.State, sync.Error
	return is, sync
}

// show makes a wallet what it is in an hour, and reports whether that differs from the hour before.
func (b *pageBuilder) show(id uuid.UUID, is shownWallet) (changed bool) {
	was := b.shown[id]
	if was == nil {
		was = &shownWallet{}
		b.shown[id] = was
	}
	sameAmounts := is.steps != nil && is.steps == was.steps && is.version == was.version ||
		maps.Equal(was.held, is.held)
	samePositions := slices.EqualFunc(was.positions, is.positions, defi.Reading.Equal)
	if !sameAmounts || !samePositions {
		is.tokens(func(token string) {
			if b.held[token]++; b.held[token] == 1 {
				b.heldIDs = nil
			}
		})
		was.tokens(func(token string) {
			if b.held[token]--; b.held[token] == 0 {
				delete(b.held, token)
				b.heldIDs = nil
			}
		})
	}
	changed = !sameAmounts || !samePositions || was.known != is.known || was.state != is.state || was.err != is.err
	*was = is
	return changed
}

// appendRows appends the rows of a wallet that are after the cursor.
func (b *pageBuilder) appendRows(rows []holding.Row, past Past, at time.Time, w *wallet.Wallet,
	is shownWallet) []holding.Row {
	held, after := is.held, ""
	if at.Unix() == b.after.Hour && b.after.Wallet != uuid.Nil {
		switch c := slices.Compare(w.ID[:], b.after.Wallet[:]); {
		case c < 0 || c == 0 && len(held) == 0:
			return rows
		case c == 0:
			after = b.after.Token
		}
	}
	first := len(rows)
	rows = slices.Grow(rows, max(1, len(held)))
	for _, id := range slices.Sorted(maps.Keys(held)) {
		if id > after {
			rows = append(rows, holding.Row{Wallet: w, Balance: &wallet.Balance{Token: past.Tokens[id],
				Amount: held[id], Receipt: defi.IsReceipt(is.positions, id)}})
		}
	}
	if len(held) == 0 {
		rows = append(rows, holding.Row{Wallet: w})
	}
	if after == "" {
		rows[first].Positions, rows[first].Assets = is.positions, holding.KnownAssets(is.positions, past.Tokens)
	}
	return rows
}

// quotes returns those of all that is held at an hour.
func (b *pageBuilder) quotes(past Past, at time.Time) []price.Quote {
	if b.heldIDs == nil {
		b.heldIDs = slices.SortedFunc(maps.Keys(b.held), cmp.Compare[string])
	}
	quotes := make([]price.Quote, 0, len(b.heldIDs))
	for _, id := range b.heldIDs {
		if past.Tokens[id].ID == "" { // the asset of a position, and no known token
			continue
		}
		q, asked := past.Quotes[TokenAt{id, at.Unix()}]
		if !asked {
			q = price.Quote{TokenID: id, Reason: price.SourceUnavailable}
		}
		if q.Reason == "" && !q.At.IsZero() {
			q.Stale = q.StaleAt(at, b.stale)
		}
		quotes = append(quotes, q)
	}
	return quotes
}
