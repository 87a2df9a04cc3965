package portfolio

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Beginning is from when the first membership of each portfolio is valid: before anything
// that wallet knows of.
func Beginning() time.Time { return time.Unix(0, 0).UTC() }

// NoNumber is the number of a membership that is never valid.
const NoNumber = -1

// Membership is which wallets a portfolio has from an hour on. The zero value has all
// wallets of the owner, and doesn't know which these are.
type Membership struct {
	// From is the start of an hour.
	From time.Time
	// Number is never used again for other wallets, or for another time, of the portfolio.
	Number int
	// Named: the portfolio has exactly Wallets. Otherwise it has all wallets of its owner.
	Named bool
	// Wallets of a Named one, in order, each once.
	Wallets []uuid.UUID
	// Digest tells which wallets the owner had last, if not Named; "" when not known.
	Digest string
	// Empty: there are no wallets.
	Empty bool
}

// Digest tells sets of wallets apart. The ids may be in any order.
func Digest(wallets []valuation.Wallet) string {
	ids := make([]string, len(wallets))
	for i, w := range wallets {
		ids[i] = w.ID
	}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(ids, "\n")))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Assets adds up what the portfolio has of what its owner's wallets hold. A wallet of the
// portfolio that the owner doesn't have is gone.
func (m Membership) Assets(wallets []valuation.Wallet, holdings []valuation.Holding,
	at time.Time) (valuation.Assets, error) {
	if m.Named {
		members := m.ids()
		var held []valuation.Holding
		for _, h := range holdings {
			if members[h.WalletID] {
				held = append(held, h)
			}
		}
		holdings = held
	}
	assets, err := valuation.Add(m.Members(wallets), holdings, at)
	assets.Membership = m.Number
	return assets, err
}

// Members returns the wallets of the portfolio among those of its owner, and those that are gone.
func (m Membership) Members(wallets []valuation.Wallet) []valuation.Wallet {
	if !m.Named {
		return wallets
	}
	members := m.ids()
	var own []valuation.Wallet
	for _, w := range wallets {
		if members[w.ID] {
			own = append(own, w)
		}
	}
	for _, id := range m.Gone(wallets) {
		own = append(own, valuation.Wallet{ID: id.String(), Gone: true})
	}
	return own
}

func (m Membership) ids() map[string]bool {
	members := make(map[string]bool, len(m.Wallets))
	for _, id := range m.Wallets {
		members[id.String()] = true
	}
	return members
}

// Gone returns the wallets of a Named portfolio that its owner, who has these, doesn't
// have any more.
func (m Membership) Gone(wallets []valuation.Wallet) (gone []uuid.UUID) {
	if !m.Named || len(m.Wallets) == 0 {
		return nil
	}
	has := make(map[string]bool, len(wallets))
	for _, w := range wallets {
		has[w.ID] = true
	}
	for _, id := range m.Wallets {
		if !has[id.String()] {
			gone = append(gone, id)
		}
	}
	return gone
}

// Memberships are those of a portfolio in the order of their hours. Each is valid until
// the next.
type Memberships []Membership

// At returns the membership at a time, and false before the first.
func (m Memberships) At(t time.Time) (Membership, bool) {
	i := m.after(t)
	if i == 0 {
		return Membership{}, false
	}
	return m[i-1], true
}

// after returns the index of the first membership after t.
func (m Memberships) after(t time.Time) int {
	i, _ := slices.BinarySearchFunc(m, t, func(m Membership, t time.Time) int {
		if m.From.After(t) {
			return 1
		}
		return -1
	})
	return i
}

// Edit is a change of the wallets of a Named portfolio from an hour on.
type Edit struct {
	// Set: from the hour on the portfolio has exactly these wallets, Add, whatever later
	// memberships said. Otherwise later memberships stay, but for these changes.
	Set         bool
	Add, Remove []uuid.UUID
}

// Apply returns the memberships after an edit from an hour on. Each membership of which
// the edit changes the wallets gets a number above last, and all others stay as they are.
// It returns the last number, and the first hour whose wallets changed; zero when none.
func (m Memberships) Apply(hour time.Time, e Edit, last int) (changed Memberships, _ int, from time.Time) {
	at, ok := m.At(hour)
	if !ok {
		return m, last, time.Time{}
	}
	edit := func(of Membership, hour time.Time) {
		wallets := e.wallets(of.Wallets)
		if slices.Equal(wallets, of.Wallets) {
			changed = append(changed, of)
			return
		}
		if of.From.Before(hour) {
			changed = append(changed, of) // until the hour
		}
		if from.IsZero() {
			from = hour
		}
		last++
		of.From, of.Number, of.Wallets, of.Empty = hour, last, wallets, len(wallets) == 0
		changed = append(changed, of)
	}
	next := m.after(hour)
	changed = slices.Clone(m[:next-1])
	edit(at, hour)
	for _, later := range m[next:] {
		if !e.Set {
			edit(later, later.From)
		} else if from.IsZero() {
			from = later.From // it is gone, and what was before goes on
		}
	}
	return changed, last, from
}

// wallets returns those of a membership after the edit, in order and each once.
func (e Edit) wallets(before []uuid.UUID) []uuid.UUID {
	var all []uuid.UUID
	if !e.Set {
		all = slices.DeleteFunc(slices.Clone(before), func(id uuid.UUID) bool { return slices.Contains(e.Remove, id) })
	}
	all = append(all, e.Add...)
	slices.SortFunc(all, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(all)
}
