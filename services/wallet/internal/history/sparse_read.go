package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// sparseRead is what is known of balances in hours in a row, of which not all were read.
type sparseRead struct {
	hours   []time.Time
	holders []common.Address
	tokens  []token.Token

	holder map[common.Address][]int // by address: several wallets may have it
	token  map[common.Address]int   // by contract, without native coins
	pairs  []sparsePair             // of each holder, each token
}

// sparsePair is what is known of one balance.
type sparsePair struct {
	readings []reading // in order of their hours
	moves    []move    // in order of their hours, one for each
}

// reading is an amount at an hour, by index; nil when the token could not be read.
type reading struct {
	at     int
	amount *uint256.Int
}

// move is what the events between the hour before and an hour add up to, modulo 2^256.
type move struct {
	at  int
	net uint256.Int
}

func newSparseRead(hours []time.Time, holders []common.Address, tokens []token.Token) *sparseRead {
	s := &sparseRead{hours: hours, holders: holders, tokens: tokens, holder: map[common.Address][]int{},
		token: map[common.Address]int{}, pairs: make([]sparsePair, len(holders)*len(tokens))}
	for i, h := range holders {
		s.holder[h] = append(s.holder[h], i)
	}
	for i, t := range tokens {
		if !t.Native {
			s.token[t.Contract] = i
		}
	}
	return s
}

// learn adds what was read at an hour, of these holders and tokens.
func (s *sparseRead) learn(at int, holders, tokens []int, amounts [][]*uint256.Int) {
	for i, h := range holders {
		for j, t := range tokens {
			p := &s.pairs[h*len(s.tokens)+t]
			k, known := slices.BinarySearchFunc(p.readings, at, func(r reading, at int) int {
				return cmp.Compare(r.at, at)
			})
			if !known {
				p.readings = slices.Insert(p.readings, k, reading{at, amounts[i][j]})
			}
		}
	}
}

// note adds an event.
func (s *sparseRead) note(e Transfer) {
	t, ok := s.token[e.Contract]
	at := slices.IndexFunc(s.hours, func(hour time.Time) bool { return !hour.Before(e.At) })
	if !ok || at < 1 {
		return
	}
	for _, h := range s.holder[e.Holder] {
		p := &s.pairs[h*len(s.tokens)+t]
		k, known := slices.BinarySearchFunc(p.moves, at, func(m move, at int) int { return cmp.Compare(m.at, at) })
		if !known {
			p.moves = slices.Insert(p.moves, k, move{at: at})
		}
		net := &p.moves[k].net
		if e.Out {
			net.Sub(net, &e.Amount)
		} else {
			net.Add(net, &e.Amount)
		}
	}
}

// wanted returns what has to be read next, by hour.
func (s *sparseRead) wanted() map[int]*rectangle {
	wanted := map[int]*rectangle{}
	for i, p := range s.pairs {
		holder, token := i/len(s.tokens), i%len(s.tokens)
		p.wanted(func(at int) {
			of := wanted[at]
			if of == nil {
				of = &rectangle{}
				wanted[at] = of
			}
			if n := len(of.holders); n == 0 || of.holders[n-1] != holder {
				of.holders = append(of.holders, holder)
			}
			if k, has := slices.BinarySearch(of.tokens, token); !has {
				of.tokens = slices.Insert(of.tokens, k, token)
			}
		})
	}
	return wanted
}

// wanted calls want with the hours at which the balance has to be read next: between two readings those of events;
// without any, where the readings differ otherwise than by an event just before the second one, the hour before that
// event or the middle one. What is then left between two readings is the amount of the first.
func (p *sparsePair) wanted(want func(at int)) {
	moves := p.moves
	for i := 1; i < len(p.readings); i++ {
		was, is := p.readings[i-1], p.readings[i]
		for len(moves) > 0 && moves[0].at <= was.at {
			moves = moves[1:]
		}
		inner := false
		for len(moves) > 0 && moves[0].at < is.at {
			want(moves[0].at)
			inner, moves = true, moves[1:]
		}
		if inner || is.at == was.at+1 {
			continue
		}
		var net *uint256.Int
		if len(moves) > 0 && moves[0].at == is.at {
			net = &moves[0].net
		}
		switch {
		case explained(was.amount, is.amount, net):
		case net != nil:
			want(is.at - 1)
		default:
			want((was.at + is.at) / 2)
		}
	}
}

// explained reports whether two readings differ by the events between them; nil for none.
func explained(was, is, net *uint256.Int) bool {
	if was == nil || is == nil {
		return was == nil && is == nil
	}
	if net == nil {
		return was.Eq(is)
	}
	return new(uint256.Int).Add(was, net).Eq(is)
}

// sparseChange is another amount of a token, nil when it could not be read.
type sparseChange struct {
	token  int
	amount *uint256.Int
}

// changesOf returns the changes of a holder's balances by hour, with all of them at the first.
func (s *sparseRead) changesOf(holder int) map[int][]sparseChange {
	changes := map[int][]sparseChange{}
	for t := range s.tokens {
		for i, r := range s.pairs[holder*len(s.tokens)+t].readings {
			if i > 0 && explained(s.pairs[holder*len(s.tokens)+t].readings[i-1].amount, r.amount, nil) {
				continue
			}
			changes[r.at] = append(changes[r.at], sparseChange{t, r.amount})
		}
	}
	return changes
}
