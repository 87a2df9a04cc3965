package portfolio

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// MembershipStore stores which wallets portfolios had when.
type MembershipStore interface {
	// Memberships returns those of a portfolio that are valid at some time from first to
	// last, in the order of their hours.
	Memberships(ctx context.Context, portfolio uuid.UUID, first, last time.Time) (Memberships, error)
	// MembershipsNow returns the portfolios of an owner with their memberships at a time.
	MembershipsNow(ctx context.Context, owner uuid.UUID, at time.Time) ([]Member, error)
	// Renew gives the default portfolio p another number, which makes all its snapshots out
	// of date. digest is that of the owner's wallets; empty: there are none. If the old
	// wallets were unknown, the number stays. Returns the new membership, or NoNumber if a
	// concurrent call stored other wallets.
	Renew(ctx context.Context, p Portfolio, old Membership, digest string, empty bool) (Membership, error)
	// Leave takes wallets that are gone out of a Named portfolio from an hour on, unless its
	// number in that hour isn't that of old any more. It returns the membership afterwards.
	Leave(ctx context.Context, p Portfolio, old int, hour time.Time, gone []uuid.UUID) (Membership, error)
}

// Member is a portfolio with its membership at one time.
type Member struct {
	Portfolio
	Membership Membership
}

// Assets returns what a portfolio holds now, with the prices of now. It returns
// errs.Unavailable (WALLET_UNAVAILABLE) while that can't be read.
//
// It compares the wallets of the owner with those that the portfolio had last, and stores
// what changed, see Follow.
func (s *Service) Assets(ctx context.Context, p Portfolio) (valuation.Assets, error) {
	for attempt := 1; ; attempt++ {
		now := s.now().UTC()
		m, wallets, holdings, err := s.current(ctx, p, now)
		if err != nil {
			return valuation.Assets{}, err
		}
		// Another call noticed at the same time that the wallets changed: what it noticed is read again.
		if m.Number != NoNumber || attempt == maxReads {
			return m.Assets(wallets, holdings, now)
		}
	}
}

// maxReads is how often the wallets are read while they change.
const maxReads = 3

// Memberships returns the memberships of a portfolio from first to last, after it has
// compared the wallets of the owner with those that the portfolio had last; errors as
// Assets.
func (s *Service) Memberships(ctx context.Context, p Portfolio, first, last time.Time) (Memberships, error) {
	m, _, _, err := s.current(ctx, p, s.now().UTC())
	if err != nil {
		return nil, err
	}
	if m.Number == NoNumber {
		return nil, errs.Unavailable("WALLET_UNAVAILABLE", "the wallets changed while they were read")
	}
	if !m.Named {
		return Memberships{m}, nil
	}
	return s.store.Memberships(ctx, p.ID, first, last)
}

// current returns the membership of now, and what all wallets of the owner hold. The
// membership is read first: a wallet that it has, and that is missing in the holdings, is
// gone, and not one that was added in between.
func (s *Service) current(ctx context.Context, p Portfolio, now time.Time) (m Membership, w []valuation.Wallet,
	h []valuation.Holding, err error) {
	all, err := s.store.Memberships(ctx, p.ID, now, now)
	if err != nil {
		return m, nil, nil, err
	}
	m, _ = all.At(now)
	if w, h, err = s.holdings.Current(ctx, p.Owner); err != nil {
		return m, nil, nil, err
	}
	m, err = s.Follow(ctx, p, m, w, now)
	return m, w, h, err
}

// Follow stores that the owner's wallets are not those of a membership at a time, which was
// read before them, and returns the membership afterwards. The snapshots of a default
// portfolio are then out of date; wallets that are gone leave a Named one from this hour
// on.
func (s *Service) Follow(ctx context.Context, p Portfolio, m Membership, wallets []valuation.Wallet,
	at time.Time) (Membership, error) {
	if m.Named {
		gone := m.Gone(wallets)
		if len(gone) == 0 {
			return m, nil
		}
		return s.store.Leave(ctx, p, m.Number, at.Truncate(time.Hour), gone)
	}
	digest := Digest(wallets)
	if m.Digest == digest {
		return m, nil
	}
	return s.store.Renew(ctx, p, m, digest, len(wallets) == 0)
}

// FollowOwner compares the wallets of an owner with those of all their portfolios, see
// Follow. It calls wallet as whoever ctx says.
func (s *Service) FollowOwner(ctx context.Context, owner uuid.UUID) error {
	now := s.now().UTC()
	all, err := s.store.MembershipsNow(ctx, owner, now)
	if err != nil || len(all) == 0 {
		return err
	}
	wallets, _, err := s.holdings.Current(ctx, owner)
	if err != nil {
		return err
	}
	for _, of := range all {
		if _, err := s.Follow(ctx, of.Portfolio, of.Membership, wallets, now); err != nil {
			return err
		}
	}
	return nil
}
