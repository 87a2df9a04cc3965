package portfolio

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	"github.com/purserhq/purser/services/internal/requests"
)

// Bounds of a portfolio, which the contract states.
const (
	MaxName        = 80
	MaxWallets     = 1000 // at one time
	MaxMemberships = 1000 // changes over time
)

// Earliest is the first time that memberships can change at: wallet reads no history before
// it.
func Earliest() time.Time { return time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC) }

// NamedStore stores portfolios that callers make. A method with a request returns what the
// earlier call with that request returned; r may be nil. All return errs.NotFound for
// another owner's portfolio.
type NamedStore interface {
	// Answered returns what an earlier call with this request returned, and whether there was
	// one.
	Answered(ctx context.Context, owner uuid.UUID, r *requests.Request) (Portfolio, bool, error)
	// Create stores p with its first wallets, from an hour on. The owner then has at most
	// limit portfolios: errs.Exhausted (TOO_MANY_PORTFOLIOS).
	Create(ctx context.Context, p Portfolio, wallets []uuid.UUID, hour time.Time, limit int,
		r *requests.Request) (Portfolio, error)
	// List returns up to limit portfolios of an owner with ids after this one, with their
	// memberships at a time.
	List(ctx context.Context, owner, after uuid.UUID, limit int, at time.Time) ([]Member, error)
	// Rename gives a portfolio another name, if it has this etag or none is given:
	// errs.Conflict (ETAG_MISMATCH).
	Rename(ctx context.Context, owner, id uuid.UUID, name, etag string, r *requests.Request) (Portfolio, error)
	// Delete removes a portfolio with its snapshots, and returns how many these were; as
	// Rename, and errs.FailedPrecondition (DEFAULT_PORTFOLIO).
	Delete(ctx context.Context, owner, id uuid.UUID, etag string, r *requests.Request) (snapshots int64, err error)
	// Edit changes the wallets from an hour on, as Delete.
	Edit(ctx context.Context, owner, id uuid.UUID, hour time.Time, e Edit, etag string,
		r *requests.Request) (Portfolio, error)
	// ListMemberships returns up to limit memberships from a time on, oldest first.
	ListMemberships(ctx context.Context, p Portfolio, from time.Time, limit int) (Memberships, error)
}

// ETag changes with the name and the wallets of a portfolio.
func (p Portfolio) ETag() string { return strconv.FormatInt(p.Version, 36) }

// CheckEtag returns errs.Conflict (ETAG_MISMATCH) for an etag that is not that of p; "" is
// every portfolio's.
func (p Portfolio) CheckEtag(etag string) error {
	if etag == "" || etag == p.ETag() {
		return nil
	}
	return requests.EtagMismatch("the portfolio", "GetPortfolio", etag, p.ETag())
}

// ErrDefault is returned for what can't be done with the default portfolio.
func ErrDefault() error {
	return errs.FailedPrecondition("DEFAULT_PORTFOLIO",
		"the default portfolio has all wallets of its owner at all times, and stays; create another one with "+
			"CreatePortfolio for some of them")
}

// CheckBounds returns errs.Exhausted for a portfolio with more wallets or changes than it may
// have.
func CheckBounds(all Memberships) error {
	if len(all) > MaxMemberships {
		return errs.Exhausted("TOO_MANY_MEMBERSHIPS", fmt.Sprintf("the wallets of the portfolio would have changed "+
			"at %d different hours, and may at %d; SetPortfolioWallets with an earlier effective_time replaces the "+
			"changes after it", len(all)-1, MaxMemberships-1)).With("limit", strconv.Itoa(MaxMemberships))
	}
	for _, m := range all {
		if len(m.Wallets) > MaxWallets {
			return errs.Exhausted("TOO_MANY_PORTFOLIO_WALLETS", fmt.Sprintf("the portfolio would have %d wallets "+
				"from %s on, and may have %d; the default portfolio has all wallets, however many", len(m.Wallets),
				m.From.Format(time.RFC3339), MaxWallets)).With("limit", strconv.Itoa(MaxWallets))
		}
	}
	return nil
}

// NewName returns a name without white space around it: errs.Invalid on name for an empty
// one, one of more than MaxName characters, and one with control characters.
func NewName(name string) (string, error) {
	given := name
	name = strings.TrimSpace(name)
	n := utf8.RuneCountInString(name)
	if n < 1 || n > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return "", errs.Invalid("name", fmt.Sprintf("must have 1 to %d characters and no control characters, %s",
			MaxName, errs.Given(given)))
	}
	return name, nil
}

// Named makes and changes portfolios of callers. It is safe for concurrent use.
type Named struct {
	store    NamedStore
	holdings Holdings
	limit    int
	now      func() time.Time
}

// NewNamed returns the service. An owner has at most limit portfolios, with the default one.
func NewNamed(s NamedStore, h Holdings, limit int, now func() time.Time) *Named {
	return &Named{store: s, holdings: h, limit: limit, now: now}
}

// Creation is a portfolio to be made.
type Creation struct {
	Name    string
	Wallets []uuid.UUID
	// Effective is from when on it has these wallets; now when zero.
	Effective time.Time
	RequestID uuid.UUID
}

// Create makes a portfolio with these wallets of the owner. errs.Invalid for the name or
// the time; errs.NotFound names wallets that the owner doesn't have; errs.Exhausted
// (TOO_MANY_PORTFOLIOS).
func (s *Named) Create(ctx context.Context, owner uuid.UUID, c Creation) (Portfolio, error) {
	name, nameErr := NewName(c.Name)
	hour, err := s.Hour(c.Effective)
	if err := errs.AllInvalid(nameErr, err); err != nil {
		return Portfolio{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Portfolio{}, fmt.Errorf("new portfolio id: %w", err)
	}
	r := requests.New(c.RequestID, "CreatePortfolio", name, timeField(c.Effective), idsField(c.Wallets))
	if p, answered, err := s.answeredOrOwned(ctx, owner, r, c.Wallets); err != nil || answered {
		return p, err
	}
	now := s.now().UTC().Truncate(time.Microsecond)
	return s.store.Create(ctx, Portfolio{ID: id, Owner: owner, Name: name, CreatedAt: now, UpdatedAt: now, Version: 1},
		Edit{Add: c.Wallets}.wallets(nil), hour, s.limit, r)
}

// Rename gives a portfolio another name; errors as Create, errs.NotFound, errs.Conflict
// (ETAG_MISMATCH).
func (s *Named) Rename(ctx context.Context, owner, id uuid.UUID, name, etag string, request uuid.UUID) (Portfolio,
	error) {
	name, err := NewName(name)
	if err != nil {
		return Portfolio{}, err
	}
	return s.store.Rename(ctx, owner, id, name, etag,
		requests.New(request, "UpdatePortfolio", id.String(), name, etag))
}

// Delete removes a portfolio, and returns how many snapshots it had; errors as NamedStore.
func (s *Named) Delete(ctx context.Context, owner, id uuid.UUID, etag string, request uuid.UUID) (int64, error) {
	return s.store.Delete(ctx, owner, id, etag, requests.New(request, "DeletePortfolio", id.String(), etag))
}

// Change is an Edit of a portfolio from a time on.
type Change struct {
	Edit
	// Effective is now when zero. The edit holds from the start of its hour.
	Effective time.Time
	ETag      string
	RequestID uuid.UUID
}

// Edit changes which wallets a portfolio has from a time on; errors as Create and Delete.
func (s *Named) Edit(ctx context.Context, owner, id uuid.UUID, c Change) (Portfolio, error) {
	hour, err := s.Hour(c.Effective)
	if err != nil {
		return Portfolio{}, err
	}
	method := "ChangePortfolioWallets"
	if c.Set {
		method = "SetPortfolioWallets"
	}
	r := requests.New(c.RequestID, method, id.String(), timeField(c.Effective), c.ETag, idsField(c.Add),
		idsField(c.Remove))
	if p, answered, err := s.answeredOrOwned(ctx, owner, r, c.Add); err != nil || answered {
		return p, err
	}
	return s.store.Edit(ctx, owner, id, hour, c.Edit, c.ETag, r)
}

// List returns up to limit portfolios of an owner after this one, oldest first, with what
// they have now.
func (s *Named) List(ctx context.Context, owner, after uuid.UUID, limit int) ([]Member, error) {
	return s.store.List(ctx, owner, after, limit, s.now().UTC())
}

// Now returns a portfolio with what it has now.
func (s *Named) Now(ctx context.Context, p Portfolio) (Member, error) {
	all, err := s.store.ListMemberships(ctx, p, s.now().UTC(), 1)
	if err != nil || len(all) == 0 {
		return Member{Portfolio: p}, err
	}
	return Member{p, all[0]}, nil
}

// ListMemberships returns up to limit memberships of a portfolio from a time on, oldest
// first: the first is valid at that time.
func (s *Named) ListMemberships(ctx context.Context, p Portfolio, from time.Time, limit int) (Memberships, error) {
	return s.store.ListMemberships(ctx, p, from, limit)
}

// Hour returns the hour in which a change takes effect: errs.Invalid on effective_time for
// one in the future or before Earliest.
func (s *Named) Hour(effective time.Time) (time.Time, error) {
	now := s.now().UTC()
	err := timerange.CheckTime("effective_time", effective, timerange.Rules{Now: now, Skew: timerange.ClockSkew,
		Earliest: Earliest()})
	if err != nil {
		return effective, err
	}
	if effective.IsZero() || effective.After(now) {
		effective = now
	}
	return effective.UTC().Truncate(time.Hour), nil
}

// answeredOrOwned returns what an earlier call with this request returned, if there was one.
// Otherwise it returns errs.NotFound, naming them, for wallets that the owner doesn't have.
func (s *Named) answeredOrOwned(ctx context.Context, owner uuid.UUID, r *requests.Request, ids []uuid.UUID) (
	p Portfolio, answered bool, err error) {
	if p, answered, err = s.store.Answered(ctx, owner, r); err != nil || answered || len(ids) == 0 {
		return p, answered, err
	}
	wallets, _, err := s.holdings.Current(ctx, owner)
	if err != nil {
		return p, false, err
	}
	return p, false, notOwned(Membership{Named: true, Wallets: ids}.Gone(wallets))
}

func notOwned(missing []uuid.UUID) error {
	if len(missing) == 0 {
		return nil
	}
	const maxNamed = 5
	text := idsField(missing[:min(maxNamed, len(missing))])
	if n := len(missing) - maxNamed; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	err := errs.NotFound("wallet " + text).ListedBy("WalletService.ListWallets")
	err.Message += ", and restore one that is archived first"
	return err.With("wallet_ids", idsField(missing[:min(maxNamed, len(missing))]))
}

func timeField(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func idsField(ids []uuid.UUID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return strings.Join(texts, ",")
}
