package gains

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// on is noon of a day.
func on(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
}

// flat values amounts of tokens without decimals at prices that hold from times on.
type flat map[string][]struct {
	from  time.Time
	price string
}

// priced has one price of each token, and none of others.
func priced(prices map[string]string) flat {
	f := flat{}
	for token, price := range prices {
		f.from(token, time.Time{}, price)
	}
	return f
}

func (f flat) from(token string, at time.Time, price string) flat {
	f[token] = append(f[token], struct {
		from  time.Time
		price string
	}{at, price})
	return f
}

func (f flat) Of(token string, at time.Time, amount *big.Int) (value *big.Int, reason string) {
	for _, p := range f[token] {
		if !at.Before(p.from) {
			value = new(big.Int).Mul(amount, units(p.price))
		}
	}
	if value == nil {
		return nil, "NO_PRICE"
	}
	return value, ""
}

// units is money in units of 10^-8.
func units(text string) *big.Int {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	r.Mul(r, big.NewRat(100_000_000, 1))
	return new(big.Int).Quo(r.Num(), r.Denom())
}

// shown is money as short text.
func shown(v *big.Int) string {
	if v == nil {
		return "?"
	}
	return strings.TrimSuffix(strings.TrimRight(Money(v), "0"), ".")
}

// move is a movement: "wallet in|out|fee|adjin|adjout amount token [hash] [>wallet] [@address]".
func move(at time.Time, text string) Movement {
	f := strings.Fields(text)
	amount, _ := new(big.Int).SetString(f[2], 10)
	m := Movement{Wallet: f[0], Token: f[3], Amount: amount, Time: at, Block: uint64(at.Unix()), Kind: Transfer,
		In: strings.HasSuffix(f[1], "in")}
	switch {
	case f[1] == "fee":
		m.Kind, m.Log = Fee, -2
	case strings.HasPrefix(f[1], "adj"):
		m.Kind, m.Index = Adjustment, 1<<31-1
	}
	for _, more := range f[4:] {
		switch more[0] {
		case '>':
			m.CounterpartyWallet = more[1:]
		case '@':
			m.Counterparty = more[1:]
		default:
			m.Hash = more
		}
	}
	return m
}

// moves are movements of one time, told apart by their places.
func moves(at time.Time, texts ...string) (out []Movement) {
	for i, text := range texts {
		m := move(at, text)
		m.Log += int32(i)
		out = append(out, m)
	}
	return out
}

func all(of ...[]Movement) (out []Movement) {
	for _, m := range of {
		out = append(out, m...)
	}
	return out
}

// told is what events say, one a line: causes, quantities and values.
func told(events []Event) string {
	var out []string
	for _, e := range events {
		what := map[lots.Kind]string{lots.Acquire: "+", lots.Dispose: "-", lots.Move: "→"}[e.Kind]
		line := fmt.Sprintf("%s %s%s", e.Wallet, what, e.Quantity)
		if e.Kind == lots.Move {
			line += " " + e.To
		} else {
			line += fmt.Sprintf(" %s %s", causeNames[e.Cause], shown(e.Value))
		}
		out = append(out, strings.TrimSpace(line+" "+e.Reason))
	}
	return strings.Join(out, "; ")
}

func TestTransactionsBecomeEvents(t *testing.T) {
	at := on(2024, 3, 1)
	prices := priced(map[string]string{"ETH": "10", "USD": "1", "ABC": "3"})
	for name, tc := range map[string]struct {
		moved []Movement
		same  Assets
		want  map[string]string
	}{
		"a swap is worth what came, and the fee is taken off what went": {
			moves(at, "a out 30 USD h", "a in 9 ABC h", "a fee 1 ETH h"), nil,
			map[string]string{"USD": "a -30 SWAP 17", "ABC": "a +9 SWAP 27", "ETH": "a -1 FEE 10"}},
		"what came has no price": {moves(at, "a out 30 USD h", "a in 9 XYZ h"), nil,
			map[string]string{"USD": "a -30 SWAP 30", "XYZ": "a +9 SWAP 30"}},
		"a swap between own wallets": {moves(at, "a out 30 USD h", "b in 9 ABC h"), nil,
			map[string]string{"USD": "a -30 SWAP 27", "ABC": "b +9 SWAP 27"}},
		"two for one": {moves(at, "a out 30 USD h", "a out 1 ETH h", "a in 12 ABC h"), nil,
			map[string]string{"USD": "a -30 SWAP 27", "ETH": "a -1 SWAP 9", "ABC": "a +12 SWAP 36"}},
		"nothing has a price": {moves(at, "a out 30 QQQ h", "a in 9 XYZ h"), nil,
			map[string]string{"QQQ": "a -30 SWAP ? NO_PRICE", "XYZ": "a +9 SWAP ? NO_PRICE"}},
		"what comes back is not disposed of": {moves(at, "a out 30 USD h", "a in 9 ABC h", "a in 3 USD h"), nil,
			map[string]string{"USD": "a -27 SWAP 27", "ABC": "a +9 SWAP 27"}},
		"income, and its fee is part of the cost": {moves(at, "a in 5 ABC h", "a fee 1 ETH h"), nil,
			map[string]string{"ABC": "a +5 INCOME 25", "ETH": "a -1 FEE 10"}},
		"sent, without the fee": {moves(at, "a out 5 ABC h", "a fee 1 ETH h"), nil,
			map[string]string{"ABC": "a -5 SENT 5", "ETH": "a -1 FEE 10"}},
		"a fee of unknown value": {moves(at, "a out 5 ABC h", "a fee 1 XXX h"), nil,
			map[string]string{"ABC": "a -5 SENT ? NO_PRICE", "XXX": "a -1 FEE ? NO_PRICE"}},
		"a fee alone": {moves(at, "a fee 1 ETH h"), nil, map[string]string{"ETH": "a -1 FEE 10"}},
		"a move": {moves(at, "a out 5 ABC h >b", "b in 5 ABC h >a", "a fee 1 ETH h"), nil,
			map[string]string{"ABC": "a →5 b", "ETH": "a -1 FEE 10"}},
		"a move of which others got a part": {moves(at, "a out 5 ABC h", "b in 3 ABC h"), nil,
			map[string]string{"ABC": "a →3 b; a -2 SENT 6"}},
		"sent to an own wallet that doesn't know it yet": {moves(at, "a out 5 ABC h >b"), nil,
			map[string]string{"ABC": "a →5"}},
		"come from an own wallet that doesn't know it": {moves(at, "b in 5 ABC h >a"), nil,
			map[string]string{"ABC": "b +5 UNMATCHED ? UNMATCHED_TRANSFER"}},
		"the two sides without a hash": {all(moves(at, "a out 5 ABC >b"), moves(at.Add(time.Hour), "b in 5 ABC"),
			moves(at.Add(2*time.Hour), "b in 5 ABC")), nil, map[string]string{"ABC": "a →5 b; b +5 INCOME 15"}},
		"the two sides too far apart": {all(moves(at, "a out 5 ABC >b"), moves(at.Add(25*time.Hour), "b in 5 ABC >a")),
			nil, map[string]string{"ABC": "a →5; b +5 UNMATCHED ? UNMATCHED_TRANSFER"}},
		"adjustments": {all(moves(at, "a adjin 5 ABC"), moves(at.Add(time.Hour), "a adjout 2 ABC")), nil,
			map[string]string{"ABC": "a +5 ADJUSTMENT 15; a -2 ADJUSTMENT 6"}},
		"a wrapped coin that counts as the same": {all(moves(at, "a out 5 eip155:1/slip44:60 h @0xc0ffee"),
			moves(at.Add(time.Hour), "a adjin 6 eip155:1/erc20:0xc0ffee")),
			Assets{"eip155:1/slip44:60": "E", "eip155:1/erc20:0xc0ffee": "E"},
			map[string]string{"E": "a +1 ADJUSTMENT ? NO_PRICE"}},
		"a deposit with its receipt in one transaction": {all(moves(at, "a in 9 eip155:1/slip44:60 g"),
			moves(at.Add(time.Hour), "a out 5 eip155:1/slip44:60 h @0xc0ffee", "a in 5 eip155:1/erc20:0xc0ffee h"),
			moves(at.Add(2*time.Hour), "a adjin 1 eip155:1/erc20:0xc0ffee")),
			Assets{"eip155:1/slip44:60": "E", "eip155:1/erc20:0xc0ffee": "E"},
			map[string]string{"E": "a +9 INCOME ? NO_PRICE; a +1 ADJUSTMENT ? NO_PRICE"}},
		"a deposit for another own wallet": {moves(at, "a out 5 eip155:1/slip44:60 h @0xc0ffee",
			"b in 5 eip155:1/erc20:0xc0ffee h"),
			Assets{"eip155:1/slip44:60": "E", "eip155:1/erc20:0xc0ffee": "E"}, map[string]string{"E": "a →5 b"}},
		"unwrapped": {moves(at, "a adjout 5 W", "a adjin 5 ETH"), Assets{"W": "ETH", "ETH": "ETH"}, nil},
		"a receipt that counts as the same": {moves(at, "a out 5 ETH h", "a in 5 aETH h", "a fee 1 ETH h"),
			Assets{"aETH": "ETH", "ETH": "ETH"}, map[string]string{"ETH": "a -1 FEE 10"}},
		"a receipt that doesn't": {moves(at, "a out 5 ETH h", "a in 5 aETH h"), nil,
			map[string]string{"ETH": "a -5 SWAP 50", "aETH": "a +5 SWAP 50"}},
	} {
		got := Events(tc.moved, tc.same, prices)
		if len(got) != len(tc.want) {
			t.Errorf("%s: assets %v", name, got)
		}
		for asset, want := range tc.want {
			if text := told(got[asset]); text != want {
				t.Errorf("%s: %s is %q, want %q", name, asset, text, want)
			}
		}
	}
}

// After moves there and back, in the order that they really had, a lot has its first time and cost.
func TestRepeatedMovesCarryTimeAndCost(t *testing.T) {
	day := func(n int) time.Time { return on(2024, 1, n) }
	moved := all(moves(day(1), "a in 10 ABC h1"), moves(day(2), "b in 10 ABC h2"),
		moves(day(3), "a out 6 ABC h3 >b", "b in 6 ABC h3 >a"), moves(day(4), "b out 2 ABC h4"),
		moves(day(5), "b out 5 ABC h5 >a", "a in 5 ABC h5 >b"))
	prices := flat{}.from("ABC", time.Time{}, "1").from("ABC", day(2), "9").from("ABC", day(4), "5")
	b := book(t, "ABC", Rules{Method: lots.FIFO, PerWallet: true}, Events(moved, nil, prices)["ABC"])
	if got := lotsTold(b); got != "a 8@8 2024-01-01; a 1@9 2024-01-02; b 9@81 2024-01-02" || gainsTold(b) != "8" {
		t.Errorf("%s, gains %s", got, gainsTold(b))
	}
}

func book(t *testing.T, asset string, r Rules, events []Event) *Book {
	t.Helper()
	if r.Zone == nil {
		r.Zone = time.UTC
	}
	b, err := NewBook(asset, r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Set(events, never); err != nil {
		t.Fatal(err)
	}
	return b
}

func lotsTold(b *Book) string {
	var out []string
	for _, o := range b.Open() {
		line := fmt.Sprintf("%s %s@%s", o.Wallet, o.Quantity, shown(o.Cost))
		if !o.Acquired.IsZero() {
			line += " " + o.Acquired.Format(time.DateOnly)
		}
		out = append(out, strings.TrimSpace(line))
	}
	return strings.Join(out, "; ")
}

// gainsTold are the gains of disposals, fees apart.
func gainsTold(b *Book) string {
	sums, order := map[string]*big.Int{}, []string{}
	for _, p := range b.Parts() {
		if p.Cause == PaidFee {
			continue
		}
		if _, has := sums[p.Disposal]; !has {
			order = append(order, p.Disposal)
			sums[p.Disposal] = new(big.Int)
		}
		if sums[p.Disposal] == nil || p.Gain == nil {
			sums[p.Disposal] = nil
			continue
		}
		sums[p.Disposal].Add(sums[p.Disposal], p.Gain)
	}
	for i, id := range order {
		order[i] = shown(sums[id])
	}
	return strings.Join(order, " ")
}
