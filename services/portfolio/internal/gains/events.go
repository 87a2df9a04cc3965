package gains

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// Transit is the placeholder wallet of a transfer between own wallets whose incoming side is not known yet.
const Transit = ""

// maxTransferGap is how far apart the two sides of a transfer without a hash may be.
const maxTransferGap = 24 * time.Hour

// Events makes the events of each asset of movements, in their order.
func Events(movements []Movement, assets Assets, worth Worth) map[string][]Event {
	b := &builder{assets: assets, worth: worth, wrapped: map[place]*big.Int{}, out: map[string][]Event{}}
	order := make([]*Movement, len(movements))
	for i := range movements {
		order[i] = &movements[i]
	}
	if !slices.IsSortedFunc(order, (*Movement).compare) {
		slices.SortStableFunc(order, (*Movement).compare)
	}
	for _, group := range groups(order, assets) {
		b.group(group)
	}
	for _, events := range b.out {
		inOrder(events)
	}
	return b.out
}

// inOrder sorts events, and numbers those of one time.
func inOrder(events []Event) {
	slices.SortStableFunc(events, func(x, y Event) int { return x.order.compare(y.order) })
	for i := range events {
		events[i].Seq = 0
		if i > 0 && events[i].Time.Equal(events[i-1].Time) {
			events[i].Seq = events[i-1].Seq + 1
		}
	}
}

// groups puts together what belongs to one transaction: what has one hash; adjustments of a wallet at one block; and
// the two sides of a transfer without a hash. They are in the order of their first movements.
func groups(order []*Movement, assets Assets) [][]*Movement {
	var out [][]*Movement
	index := map[string]int{}
	coming := map[side][]int{} // groups of one movement that came without a hash
	for _, m := range order {
		key := m.transaction()
		i, found := index[key]
		if !found || key == "" {
			i = len(out)
			out = append(out, nil)
		}
		out[i] = append(out[i], m)
		if key != "" {
			index[key] = i
		} else if m.In && m.Kind == Transfer {
			s := side{assets.Of(m.Token), m.Wallet, m.CounterpartyWallet, m.Amount.String()}
			coming[s] = append(coming[s], i)
		}
	}
	for i, g := range out {
		if len(g) != 1 || g[0].Hash != "" || g[0].In || g[0].Kind != Transfer || g[0].CounterpartyWallet == "" {
			continue
		}
		for _, from := range []string{g[0].Wallet, ""} {
			s := side{assets.Of(g[0].Token), g[0].CounterpartyWallet, from, g[0].Amount.String()}
			for len(coming[s]) > 0 && g[0].Time.Sub(out[coming[s][0]][0].Time) > maxTransferGap {
				coming[s] = coming[s][1:]
			}
			if len(coming[s]) == 0 || out[coming[s][0]][0].Time.Sub(g[0].Time) > maxTransferGap {
				continue
			}
			j := coming[s][0]
			coming[s] = coming[s][1:]
			first, last := min(i, j), max(i, j)
			out[first], out[last] = []*Movement{out[first][0], out[last][0]}, nil
			break
		}
	}
	return slices.DeleteFunc(out, func(g []*Movement) bool { return len(g) == 0 })
}

// side is what came to a wallet, from another one if that is known.
type side struct{ asset, wallet, from, amount string }

// place is an asset in a wallet.
type place struct{ asset, wallet string }

// builder makes events.
type builder struct {
	assets Assets
	worth  Worth
	// wrapped is what was sent to the contracts of wrapped tokens, which shows as an adjustment of these later.
	wrapped map[place]*big.Int
	out     map[string][]Event
}

// flow is what a transaction changes of an asset in a wallet.
type flow struct {
	place
	// in and out are the first movements of each direction.
	in, out *Movement
	net     *big.Int // above 0 where it came
	// ownOut and ownIn are how much of what went, and came, has an own wallet on the other side; wraps is how much of
	// what went is in the contract of a token of the same asset.
	ownOut, ownIn, wraps *big.Int
}

// first is the movement that tells of what is left.
func (f *flow) first() *Movement {
	if f.net.Sign() > 0 {
		return f.in
	}
	return f.out
}

// leg is a quantity that is acquired or disposed of.
type leg struct {
	place
	of       *Movement
	quantity *big.Int
	value    *big.Int // market value
	reason   string
}

// group makes the events of a transaction.
func (b *builder) group(g []*Movement) {
	if g[0].Kind == Adjustment {
		b.adjust(g)
		return
	}
	flows, fees := b.flows(g)
	b.moves(flows)
	b.wrap(flows)
	var in, out []leg
	for _, f := range flows {
		if f.net.Sign() == 0 {
			continue
		}
		q := new(big.Int).Abs(f.net)
		if f.net.Sign() < 0 {
			if on := lesser(q, f.ownOut); on.Sign() > 0 {
				b.event(lots.Move, f.place, f.first(), "t", on, Fact{}).To = Transit
				q.Sub(q, on)
			}
			out = b.leg(out, f, q)
			continue
		}
		if lost := lesser(q, f.ownIn); lost.Sign() > 0 {
			b.event(lots.Acquire, f.place, f.first(), "u", lost, Fact{Cause: Unmatched, Reason: ReasonUnmatched})
			q.Sub(q, lost)
		}
		in = b.leg(in, f, q)
	}
	b.legs(in, out, b.pay(fees))
}

func lesser(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return new(big.Int).Set(a)
	}
	return new(big.Int).Set(b)
}

func (b *builder) leg(to []leg, f *flow, quantity *big.Int) []leg {
	if quantity.Sign() == 0 {
		return to
	}
	l := leg{place: f.place, of: f.first(), quantity: quantity}
	l.value, l.reason = b.worth.Of(l.of.Token, l.of.Time, quantity)
	return append(to, l)
}

// flows nets the transfers of a transaction by asset and wallet, in the order of their first movements.
func (b *builder) flows(g []*Movement) (flows []*flow, fees []*Movement) {
	known := map[place]*flow{}
	for _, m := range g {
		if m.Kind == Fee {
			fees = append(fees, m)
			continue
		}
		at := place{b.assets.Of(m.Token), m.Wallet}
		f := known[at]
		if f == nil {
			f = &flow{place: at, net: new(big.Int), ownOut: new(big.Int), ownIn: new(big.Int), wraps: new(big.Int)}
			flows, known[at] = append(flows, f), f
		}
		first, sum, own := &f.out, f.net.Sub, f.ownOut
		if m.In {
			first, sum, own = &f.in, f.net.Add, f.ownIn
		}
		sum(f.net, m.Amount)
		if *first == nil {
			*first = m
		}
		if m.CounterpartyWallet != "" {
			own.Add(own, m.Amount)
		}
		if !m.In && b.wraps(m, at.asset) {
			f.wraps.Add(f.wraps, m.Amount)
		}
	}
	return flows, fees
}

// wrap takes off the flows what went to contracts of tokens of the same asset and for which nothing came in the
// transaction: the next adjustment of the wallet shows it.
func (b *builder) wrap(flows []*flow) {
	for _, f := range flows {
		if f.net.Sign() < 0 && f.wraps.Sign() > 0 {
			q := lesser(new(big.Int).Neg(f.net), f.wraps)
			b.wrapped[f.place] = new(big.Int).Add(zero(b.wrapped[f.place]), q)
			f.net.Add(f.net, q)
		}
	}
}

func zero(n *big.Int) *big.Int {
	if n == nil {
		return new(big.Int)
	}
	return n
}

// wraps reports whether a movement is to the contract of a token that counts as the same asset.
func (b *builder) wraps(m *Movement, asset string) bool {
	if m.Counterparty == "" || len(b.assets) == 0 {
		return false
	}
	chain, _, _ := strings.Cut(m.Token, "/")
	contract := chain + "/erc20:" + m.Counterparty
	return contract != m.Token && b.assets.Of(contract) == asset
}

// moves makes moves of what left one wallet and came to another, and takes it off the flows.
func (b *builder) moves(flows []*flow) {
	coming := map[string][]*flow{} // by asset
	for _, f := range flows {
		if f.net.Sign() > 0 {
			coming[f.asset] = append(coming[f.asset], f)
		}
	}
	for _, from := range flows {
		for from.net.Sign() < 0 && len(coming[from.asset]) > 0 {
			to := coming[from.asset][0]
			q := lesser(new(big.Int).Neg(from.net), to.net)
			b.event(lots.Move, from.place, from.out, "m"+to.wallet, q, Fact{}).To = to.wallet
			from.net.Add(from.net, q)
			to.net.Sub(to.net, q)
			from.ownOut.Sub(from.ownOut, lesser(q, from.ownOut))
			to.ownIn.Sub(to.ownIn, lesser(q, to.ownIn))
			if to.net.Sign() == 0 {
				coming[from.asset] = coming[from.asset][1:]
			}
		}
	}
}

// pay disposes of the coins that fees took, and returns the fees as legs.
func (b *builder) pay(fees []*Movement) (paid []leg) {
	for _, m := range fees {
		l := leg{place: place{b.assets.Of(m.Token), m.Wallet}, of: m, quantity: m.Amount}
		l.value, l.reason = b.worth.Of(m.Token, m.Time, m.Amount)
		b.event(lots.Dispose, l.place, m, "f", m.Amount, Fact{Cause: PaidFee, Reason: l.reason}).Value = l.value
		paid = append(paid, l)
	}
	return paid
}

// adjust makes events of the adjustments of a wallet at one block.
func (b *builder) adjust(g []*Movement) {
	flows, _ := b.flows(g)
	for _, f := range flows {
		if f.net.Sign() > 0 {
			known := lesser(f.net, zero(b.wrapped[f.place]))
			if known.Sign() > 0 {
				b.wrapped[f.place].Sub(b.wrapped[f.place], known)
				f.net.Sub(f.net, known)
			}
		}
		if f.net.Sign() == 0 {
			continue
		}
		q := new(big.Int).Abs(f.net)
		value, reason := b.worth.Of(f.first().Token, f.first().Time, q)
		kind, fact := lots.Dispose, Fact{Cause: Adjusted, Reason: reason}
		if f.net.Sign() > 0 {
			kind, fact.income = lots.Acquire, value
		}
		b.event(kind, f.place, f.first(), "j", q, fact).Value = value
	}
}

// event adds an event. role tells those of a transaction, asset and wallet apart.
func (b *builder) event(kind lots.Kind, at place, m *Movement, role string, quantity *big.Int, f Fact) *Event {
	f.Token, f.Hash = m.Token, m.Hash
	name := m.Hash
	if name == "" {
		name = fmt.Sprintf("%d %d %d %d %s", m.Block, m.Time.UnixMicro(), m.Index, m.Log, m.Row)
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{m.Token, at.wallet, name, role}, "\n")))
	e := Event{Fact: f, order: m, Event: lots.Event{ID: "lot:" + hex.EncodeToString(sum[:12]), Kind: kind,
		Time:   m.Time,
		Wallet: at.wallet, Quantity: quantity}}
	b.out[at.asset] = append(b.out[at.asset], e)
	return &b.out[at.asset][len(b.out[at.asset])-1]
}
