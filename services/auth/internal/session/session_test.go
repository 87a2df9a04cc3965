package session_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/device"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	email    = "ada@example.com"
	password = "correct horse battery"
)

func policy() session.Policy {
	return session.Policy{Access: 15 * time.Minute, Refresh: 24 * time.Hour, Absolute: 72 * time.Hour,
		Recovery: time.Minute}
}

// clock is set by the test; nothing waits.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// signer gives out tokens that say whose they are; unavailable makes it refuse.
type signer struct{ unavailable bool }

func (s *signer) Sign(c authn.Claims, _ time.Duration) (string, time.Time, error) {
	if s.unavailable {
		return "", time.Time{}, errs.Unavailable("SIGNING_UNAVAILABLE", "away")
	}
	return "access of " + c.SessionID + " " + strings.Join(c.Roles, ","), time.Time{}, nil
}

type fixture struct {
	*session.Service
	db     *testkit.DB
	store  *store.Sessions
	clock  *clock
	signer *signer
	user   uuid.UUID
}

// deviceKeys are always the same.
func deviceKeys() *device.Keys {
	k, err := device.NewKeys([]byte("the key-encryption key"))
	if err != nil {
		panic(err)
	}
	return k
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	f := fixture{
		db: db, store: store.NewSessions(db.DB), signer: &signer{}, user: uuid.New(),
		clock: &clock{at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)},
	}
	f.Service = f.over(timed{f.store, f.clock})
	err := store.NewAccounts(db.DB, nil, store.NewMails(db.DB)).Register(t.Context(), account.Registration{
		User:         account.User{ID: f.user, Email: email, Roles: []string{"trader"}, CreatedAt: f.clock.now()},
		PasswordHash: password,
	}, account.Include{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// timed is a store whose database has the test's clock.
type timed struct {
	*store.Sessions
	clock *clock
}

func (s timed) Change(ctx context.Context, token session.Hash, change session.Change) error {
	return s.Sessions.Change(ctx, token, func(f session.Family, is account.AccessState, _ time.Time) (session.Family,
		audit.Event, error) {
		return change(f, is, s.clock.now())
	})
}

func (f fixture) over(s session.Store) *session.Service {
	return session.NewService(session.Deps{Store: s, Signer: f.signer, Passwords: plain{}, Devices: deviceKeys(),
		Audit: store.NewAudit(f.db.DB), Now: f.clock.now}, policy())
}

func (f fixture) login(t *testing.T) session.Tokens {
	t.Helper()
	tokens, err := f.Login(t.Context(), email, password, "")
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// refresh fails the test when the token is refused.
func (f fixture) refresh(t *testing.T, token string) session.Tokens {
	t.Helper()
	tokens, err := f.Refresh(t.Context(), session.Token(token))
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// refused fails the test unless the token is refused for this reason.
func (f fixture) refused(t *testing.T, token, reason string) {
	t.Helper()
	_, err := f.Refresh(t.Context(), session.Token(token))
	if e := errs.As(err); e == nil || e.Reason != reason {
		t.Fatalf("refresh answered %v, want %s", err, reason)
	}
}

func TestLoginAnswersAnUnknownAddressAndAWrongPasswordAlike(t *testing.T) {
	f := newFixture(t)
	_, wrong := f.Login(t.Context(), email, "not the password", "")
	for name, address := range map[string]string{
		"an unknown address":               "bob@example.com",
		"an address with a NUL byte":       "bob\x00@example.com",
		"a known address and a NUL byte":   email + "\x00",
		"no address":                       "",
		"an address of a percent sign":     "%",
		"an address that breaks SQL quote": "' OR true --",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.Login(t.Context(), address, password, "")
			if err == nil || err.Error() != wrong.Error() || errs.As(err).Reason != "INVALID_CREDENTIALS" {
				t.Errorf("answered %v, a wrong password %v", err, wrong)
			}
		})
	}
}

// Every statement is a round trip that a stopwatch sees; argon2 hides only so
// much of it.
func TestAFailedLoginTakesAsManyStatementsWhetherTheAddressIsKnownOrNot(t *testing.T) {
	f := newFixture(t)
	var statements int
	count := func(*gorm.DB) { statements++ }
	g := f.db.Gorm(t.Context())
	if err := errors.Join(g.Callback().Query().After("gorm:query").Register("count", count),
		g.Callback().Raw().After("gorm:raw").Register("count", count)); err != nil {
		t.Fatal(err)
	}
	counted := func(address string) int {
		statements = 0
		if _, err := f.Login(t.Context(), address, "not the password", ""); err == nil {
			t.Fatal("a wrong password was accepted")
		}
		return statements
	}
	if known, unknown := counted(email), counted("bob@example.com"); known != unknown || known == 0 {
		t.Errorf("%d statements for a known address, %d for an unknown one", known, unknown)
	}
}

func TestAddressesAreComparedWithoutRegardToCase(t *testing.T) {
	f := newFixture(t)
	if _, err := f.Login(t.Context(), " ADA@Example.COM ", password, ""); err != nil {
		t.Error(err)
	}
}

func TestASessionThatCanNotBeSignedIsNotBegun(t *testing.T) {
	f := newFixture(t)
	f.signer.unavailable = true
	if _, err := f.Login(t.Context(), email, password, ""); !errs.Is(err, errs.KindUnavailable) {
		t.Fatalf("login answered %v", err)
	}
	if n := f.count(t, "SELECT count(*) FROM sessions"); n != 0 {
		t.Errorf("%d sessions are stored", n)
	}
}

func (f fixture) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := f.db.SQL().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLogoutEndsTheRefreshingOfItsSessionOnly(t *testing.T) {
	f := newFixture(t)
	mine, other := f.login(t), f.login(t)
	id := strings.Fields(strings.TrimPrefix(mine.Access, "access of "))[0]
	if err := f.Logout(t.Context(), uuid.New(), uuid.MustParse(id)); err != nil {
		t.Fatal(err)
	}
	next := f.refresh(t, mine.Refresh) // somebody else's logout does nothing
	for range 2 {
		if err := f.Logout(t.Context(), f.user, uuid.MustParse(id)); err != nil {
			t.Fatal(err)
		}
	}
	f.refused(t, next.Refresh, "SESSION_REVOKED")
	f.refused(t, mine.Refresh, "SESSION_REVOKED") // also within the recovery
	f.refresh(t, other.Refresh)
}

func TestOnlyHashesOfTokensAreStored(t *testing.T) {
	f := newFixture(t)
	first := f.login(t)
	second := f.refresh(t, first.Refresh)
	for _, token := range []string{first.Refresh, second.Refresh} {
		for _, table := range []string{"sessions", "refresh_tokens", "users"} {
			n := f.count(t, "SELECT count(*) FROM "+table+" x WHERE strpos(x::text, $1) > 0 OR strpos(x::text, "+
				"encode(convert_to($1, 'UTF8'), 'hex')) > 0", token)
			if n != 0 {
				t.Errorf("the token stands in %s", table)
			}
		}
		hash := session.Token(token).Hash()
		if n := f.count(t, "SELECT count(*) FROM refresh_tokens WHERE token_hash = $1", hash[:]); n != 1 {
			t.Errorf("its hash is stored %d times", n)
		}
	}
	// The control: the search finds what is there.
	if n := f.count(t, "SELECT count(*) FROM users x WHERE strpos(x::text, $1) > 0", email); n != 1 {
		t.Error("the search doesn't find the address either")
	}
}

func TestPolicy(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*session.Policy)
		want   string
	}{
		{"the defaults of the tests are fine", func(*session.Policy) {}, ""},
		{"an access token of no time is refused", func(p *session.Policy) { p.Access = 0 }, "PURSER_ACCESS_TTL"},
		{"an access token of two days is refused", func(p *session.Policy) { p.Access = 48 * time.Hour },
			"PURSER_ACCESS_TTL"},
		{"a refresh token that ends before the access token is refused",
			func(p *session.Policy) { p.Refresh = time.Minute }, "PURSER_REFRESH_TTL"},
		{"a session shorter than its refresh token is refused", func(p *session.Policy) { p.Absolute = time.Hour },
			"PURSER_REFRESH_TTL"},
		{"a recovery of an hour is refused", func(p *session.Policy) { p.Recovery = time.Hour },
			"PURSER_REFRESH_RECOVERY"},
		{"a recovery below zero is refused", func(p *session.Policy) { p.Recovery = -1 }, "PURSER_REFRESH_RECOVERY"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := policy()
			tc.change(&p)
			err := p.Validate()
			if tc.want == "" && err != nil ||
				tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("Validate() = %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAUserSeesAndEndsTheirOwnSessionsOnly(t *testing.T) {
	f := newFixture(t)
	var begun []session.Tokens
	for range 3 {
		client := audit.Client{UserAgent: "grpc-go/1", IPAddress: "192.0.2.1"}
		tokens, err := f.Login(audit.WithClient(t.Context(), client), email, password, "")
		if err != nil {
			t.Fatal(err)
		}
		begun = append(begun, tokens)
	}
	f.clock.pass(time.Hour)
	if _, err := f.Refresh(audit.WithClient(t.Context(), audit.Client{UserAgent: "grpc-go/2", IPAddress: "192.0.2.2"}),
		session.Token(begun[0].Refresh)); err != nil {
		t.Fatal(err)
	}
	list, err := f.List(t.Context(), f.user, uuid.Nil, 10)
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	oldest := list[2]
	if oldest.Client != (audit.Client{UserAgent: "grpc-go/2", IPAddress: "192.0.2.2"}) ||
		!oldest.LastUsedAt.Equal(f.clock.now()) || list[0].Client.UserAgent != "grpc-go/1" {
		t.Errorf("%+v", list)
	}
	if page, err := f.List(t.Context(), f.user, list[0].ID, 1); err != nil || len(page) != 1 ||
		page[0].ID != list[1].ID {
		t.Error(page, err)
	}
	stranger := uuid.New()
	if err := f.Revoke(t.Context(), stranger, oldest.ID); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("a stranger's revocation: %v", err)
	}
	if err := f.LogoutAll(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := f.Revoke(t.Context(), f.user, oldest.ID); err != nil {
			t.Fatal(err)
		}
	}
	f.refused(t, begun[0].Refresh, "SESSION_REVOKED")
	if err := f.RevokeToken(t.Context(), session.Token(begun[1].Refresh)); err != nil {
		t.Fatal(err)
	}
	if err := f.RevokeToken(t.Context(), "not one of ours"); err != nil {
		t.Fatal(err)
	}
	f.refused(t, begun[1].Refresh, "SESSION_REVOKED")
	if list, err := f.List(t.Context(), f.user, uuid.Nil, 10); err != nil || len(list) != 1 {
		t.Error(list, err)
	}
	if err := f.LogoutAll(t.Context(), f.user); err != nil {
		t.Fatal(err)
	}
	f.refused(t, begun[2].Refresh, "SESSION_REVOKED")
}

func TestDisabledAccountsAreLetInNoMore(t *testing.T) {
	f := newFixture(t)
	tokens := f.login(t)
	if err := f.db.Gorm(t.Context()).Exec("UPDATE users SET disabled_at = now()").Error; err != nil {
		t.Fatal(err)
	}
	_, err := f.Login(t.Context(), email, password, "")
	if e := errs.As(err); e == nil || e.Reason != "ACCOUNT_DISABLED" {
		t.Errorf("signing in answers %v", err)
	}
	if _, err := f.Login(t.Context(), email, "not the password", ""); errs.As(err).Reason != "INVALID_CREDENTIALS" {
		t.Errorf("a wrong password is answered %v", err)
	}
	f.refused(t, tokens.Refresh, "ACCOUNT_DISABLED")
}

func TestSignInsAreRecorded(t *testing.T) {
	f := newFixture(t)
	f.login(t)
	_, _ = f.Login(t.Context(), email, "not the password", "")
	_, _ = f.Login(t.Context(), "nobody@example.com", password, "")
	var rows []struct {
		Outcome, Reason string
		Subject         *uuid.UUID
	}
	err := f.db.Gorm(t.Context()).Raw("SELECT outcome, reason, subject FROM audit_events WHERE type = " +
		"'session.login' ORDER BY id").Scan(&rows).Error
	if err != nil || len(rows) != 3 {
		t.Fatalf("recorded %+v, %v", rows, err)
	}
	for i, want := range []struct {
		outcome, reason string
		known           bool
	}{{"OK", "pwd", true}, {"REFUSED", "INVALID_CREDENTIALS", true}, {"REFUSED", "INVALID_CREDENTIALS", false}} {
		if r := rows[i]; r.Outcome != want.outcome || r.Reason != want.reason || (r.Subject != nil) != want.known {
			t.Errorf("event %d is %+v", i, r)
		}
	}
}
