package history

import (
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// frameDays is how many days of a month a frame has: its last one has fewer.
const frameDays = 7

// Frame returns the start of the frame of an hour. Balances are stored by change within a frame; its first hour that
// was read has all of them. A frame lies within a month, whose rows are kept or dropped together.
func Frame(hour time.Time) time.Time {
	y, m, d := hour.UTC().Date()
	return time.Date(y, m, (d-1)/frameDays*frameDays+1, 0, 0, 0, 0, time.UTC)
}

// FrameEnd returns the start of the frame after that of an hour.
func FrameEnd(hour time.Time) time.Time {
	start := Frame(hour)
	end := start.AddDate(0, 0, frameDays)
	if next := time.Date(start.Year(), start.Month()+1, 1, 0, 0, 0, 0, time.UTC); end.After(next) {
		return next
	}
	return end
}

// Past is what is stored of a range of hours.
type Past struct {
	Wallets map[uuid.UUID]*WalletPast
	Tokens  map[string]token.Token
	Blocks  map[ChainHour]block.Block // without hashes
	// Quotes of the tokens that were held at an hour: price.NoPrice if the sources had none, no entry if they were
	// not asked.
	Quotes map[TokenAt]price.Quote
}

// ChainHour is an hour of a chain, TokenAt one of a token. Hours are Unix times of their starts.
type (
	ChainHour struct {
		Chain uint64
		Hour  int64
	}
	TokenAt struct {
		Token string
		Hour  int64
	}
)

// WalletPast is what is stored of a wallet: from the frame of the first hour on.
type WalletPast struct {
	// Read are the hours that were read, in order and without an overlap.
	Read []ReadHours
	// Changes in order of their hours: the amount of a token from an hour on, until its next change or the end of
	// the frame.
	Changes []Change
	// Positions by hour, Unix times.
	Positions map[int64][]defi.Reading
}

// ReadHours are hours in [From, Until), Unix times, that were read alike.
type ReadHours struct {
	From, Until int64
	Unread      string // as in Record
}

// Change is the amount of a token from an hour on.
type Change struct {
	Hour   int64
	Token  string
	Amount uint256.Int // zero when the wallet has none any more
}

// Amounts steps through the hours of a wallet.
type Amounts struct {
	past  *WalletPast
	until int64 // the end of the frame; 0 before the first hour
	read  int   // ReadHours that end before the hour
	next  int   // the first change after the hour
	// Version is another one after each step that changed Held.
	Version int
	// Held are the amounts above zero. A map is not changed once it was returned.
	Held map[string]uint256.Int
}

// Steps returns the wallet's amounts before its first hour.
func (p *WalletPast) Steps() *Amounts { return &Amounts{past: p, Held: map[string]uint256.Int{}} }

// At goes to an hour, which is not before the last one, and reports whether it was read, and with which tokens unread.
func (a *Amounts) At(hour int64) (read bool, unread string) {
	if hour >= a.until {
		frame := Frame(time.Unix(hour, 0)).Unix()
		a.until = FrameEnd(time.Unix(hour, 0)).Unix()
		for a.next < len(a.past.Changes) && a.past.Changes[a.next].Hour < frame {
			a.next++
		}
		if len(a.Held) > 0 {
			a.Held, a.Version = map[string]uint256.Int{}, a.Version+1
		}
	}
	cloned := false
	for ; a.next < len(a.past.Changes) && a.past.Changes[a.next].Hour <= hour; a.next++ {
		if !cloned {
			a.Held, a.Version, cloned = maps.Clone(a.Held), a.Version+1, true
		}
		if c := a.past.Changes[a.next]; c.Amount.IsZero() {
			delete(a.Held, c.Token)
		} else {
			a.Held[c.Token] = c.Amount
		}
	}
	for a.read < len(a.past.Read) && a.past.Read[a.read].Until <= hour {
		a.read++
	}
	if a.read == len(a.past.Read) || a.past.Read[a.read].From > hour {
		return false, ""
	}
	return true, a.past.Read[a.read].Unread
}

// HeldTokens returns the tokens that were held, also in positions, in hours of [from, until) that were read, and for
// each hour from from on whether it was one of them.
func (p Past) HeldTokens(from, until time.Time) map[string][]bool {
	const step = int64(time.Hour / time.Second)
	hours := int((until.Unix() - from.Unix()) / step)
	held := map[string][]bool{}
	mark := func(amounts map[string]uint256.Int, first, end int) {
		for id := range amounts {
			of := held[id]
			if of == nil {
				of = make([]bool, hours)
				held[id] = of
			}
			for i := first; i < end; i++ {
				of[i] = true
			}
		}
	}
	for _, w := range p.Wallets {
		for hour, readings := range w.Positions {
			if i := int((hour - from.Unix()) / step); hour >= from.Unix() && i < hours {
				for id := range defi.Assets(readings) {
					mark(map[string]uint256.Int{id: {}}, i, i+1)
				}
			}
		}
		a := w.Steps()
		first, version := 0, 0 // of hours that were read and are alike
		var amounts map[string]uint256.Int
		for i := range hours {
			read, _ := a.At(from.Unix() + int64(i)*step)
			if read && amounts != nil && a.Version == version {
				continue
			}
			mark(amounts, first, i)
			amounts = nil
			if read {
				amounts, first, version = a.Held, i, a.Version
			}
		}
		mark(amounts, first, hours)
	}
	return held
}
