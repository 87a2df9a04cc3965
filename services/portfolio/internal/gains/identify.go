package gains

import (
	"math/big"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// Identification says from which lots the next disposal of a token by a wallet takes.
type Identification struct {
	ID            uuid.UUID
	Owner         uuid.UUID
	Wallet, Token string
	Picks         []lots.Pick
	// Hash of the transaction that it is for; empty for the next disposal.
	Hash     string
	Recorded time.Time
}

// Identify gives disposals the picks that were recorded for them. events are those of an asset; given are in the order
// of their times.
//
// A disposal follows the newest record for its transaction that is not after it; or else the newest record without a
// transaction that is not after it, and after the disposal of the wallet before. Fees follow none.
func Identify(asset string, events []Event, given []Identification, assets Assets) {
	byWallet := map[string][]Identification{}
	for _, g := range given {
		if assets.Of(g.Token) == asset {
			byWallet[g.Wallet] = append(byWallet[g.Wallet], g)
		}
	}
	if len(byWallet) == 0 {
		return
	}
	before := map[string]time.Time{} // the disposal of each wallet before
	for i := range events {
		e := &events[i]
		if e.Kind != lots.Dispose || e.Cause == PaidFee || len(byWallet[e.Wallet]) == 0 {
			continue
		}
		var next, exact *Identification
		for j := range byWallet[e.Wallet] {
			g := &byWallet[e.Wallet][j]
			switch {
			case g.Recorded.After(e.Time):
			case g.Hash == "":
				if last, disposed := before[e.Wallet]; !disposed || g.Recorded.After(last) {
					next = g
				}
			case g.Hash == e.Hash:
				exact = g
			}
		}
		if exact != nil {
			next = exact
		}
		if next != nil {
			e.Picks = trimmed(next.Picks, e.Quantity)
		}
		before[e.Wallet] = e.Time
	}
}

// trimmed are the picks as far as a quantity goes.
func trimmed(picks []lots.Pick, quantity *big.Int) (out []lots.Pick) {
	rest := new(big.Int).Set(quantity)
	for _, p := range picks {
		if rest.Sign() == 0 {
			break
		}
		q := lesser(p.Quantity, rest)
		out = append(out, lots.Pick{Lot: p.Lot, Quantity: q})
		rest.Sub(rest, q)
	}
	return out
}
