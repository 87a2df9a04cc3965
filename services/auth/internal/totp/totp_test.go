package totp_test

import (
	"bytes"
	"context"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	otp "github.com/pquerna/otp/totp"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/internal/totp"
	"github.com/purserhq/purser/services/auth/migrations"
	"github.com/purserhq/purser/services/internal/seal"
)

func TestMain(m *testing.M) { testkit.Main(m) }

type fixture struct {
	*totp.Service
	db    *testkit.DB
	clock *clock
	user  uuid.UUID
}

// clock is the database's, as far as the rules see: nothing waits.
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

// timed is a store whose database has the test's clock.
type timed struct {
	*store.SecondFactors
	clock *clock
}

func (s timed) Change(ctx context.Context, user uuid.UUID, change totp.Change) error {
	return s.SecondFactors.Change(ctx, user, func(f totp.Factor, _ time.Time) (totp.Factor, audit.Event, error) {
		return change(f, s.clock.now())
	})
}

func newFixture(t *testing.T) fixture {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	f := fixture{db: db, user: uuid.New(), clock: &clock{at: time.Date(2026, 3, 1, 12, 0, 10, 0, time.UTC)}}
	sealer, err := seal.New(bytes.Repeat([]byte("k"), seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	f.Service = totp.NewService(timed{store.NewSecondFactors(db.DB), f.clock}, sealer, "Purser")
	f.register(t, f.user, "ada@example.com")
	return f
}

func (f fixture) register(t *testing.T, id uuid.UUID, email string) {
	t.Helper()
	err := store.NewAccounts(f.db.DB, nil, store.NewMails(f.db.DB)).Register(t.Context(), account.Registration{
		User:         account.User{ID: id, Email: email, CreatedAt: f.clock.now()},
		PasswordHash: "hash",
	}, account.Include{}, nil)
	if err != nil {
		t.Fatal(err)
	}
}

// code is what the app shows off from now.
func (f fixture) code(t *testing.T, secret string, off time.Duration) string {
	t.Helper()
	code, err := otp.GenerateCode(secret, f.clock.now().Add(off))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// enrolled gives the user a second factor, and lets its first code pass.
func (f fixture) enrolled(t *testing.T) (secret string, recovery []string) {
	t.Helper()
	e, err := f.Enroll(t.Context(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	recovery, err = f.Confirm(t.Context(), f.user, f.code(t, e.Secret, 0))
	if err != nil {
		t.Fatal(err)
	}
	f.clock.pass(2 * time.Minute)
	return e.Secret, recovery
}

func (f fixture) check(t *testing.T, code, reason string) {
	t.Helper()
	methods, err := f.Check(t.Context(), f.user, code)
	if reason == "" {
		if err != nil || strings.Join(methods, " ") != "otp mfa" {
			t.Fatalf("%q was answered %v, %v", code, methods, err)
		}
		return
	}
	wantReason(t, err, reason)
	if methods != nil {
		t.Errorf("a refused code proves %v", methods)
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if e := errs.As(err); e == nil || e.Reason != reason {
		t.Fatalf("answered %v, want %s", err, reason)
	}
}

func TestAFactorCountsOnceItIsConfirmed(t *testing.T) {
	f := newFixture(t)
	if methods, err := f.Check(t.Context(), f.user, ""); err != nil || methods != nil {
		t.Fatalf("without a factor: %v, %v", methods, err)
	}
	first, err := f.Enroll(t.Context(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	second, err := f.Enroll(t.Context(), f.user)
	if err != nil || first.Secret == second.Secret {
		t.Fatal("enrolling anew gave", second, err)
	}
	if u, err := url.Parse(second.URI); err != nil || u.Scheme != "otpauth" || u.Host != "totp" ||
		u.Path != "/Purser:ada@example.com" || u.Query().Get("secret") != second.Secret ||
		u.Query().Get("issuer") != "Purser" {
		t.Error(second.URI, err)
	}
	if methods, err := f.Check(t.Context(), f.user, ""); err != nil || methods != nil {
		t.Fatalf("while it is pending: %v, %v", methods, err)
	}
	_, err = f.Confirm(t.Context(), f.user, f.code(t, first.Secret, 0))
	wantReason(t, err, "TOTP_INVALID")
	recovery, err := f.Confirm(t.Context(), f.user, f.code(t, second.Secret, 0))
	if err != nil || len(recovery) != 10 {
		t.Fatal(recovery, err)
	}
	f.check(t, "", "TOTP_REQUIRED")
	f.check(t, f.code(t, second.Secret, 0), "TOTP_INVALID") // it was used to confirm
	_, err = f.Enroll(t.Context(), f.user)
	wantReason(t, err, "TOTP_ALREADY_ENROLLED")
	_, err = f.Confirm(t.Context(), f.user, f.code(t, second.Secret, 30*time.Second))
	wantReason(t, err, "TOTP_NOT_PENDING")
}

func TestAnEnrollmentDoesNotWaitForLong(t *testing.T) {
	f := newFixture(t)
	e, err := f.Enroll(t.Context(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	f.clock.pass(16 * time.Minute)
	_, err = f.Confirm(t.Context(), f.user, f.code(t, e.Secret, 0))
	wantReason(t, err, "TOTP_NOT_PENDING")
	stranger := uuid.New()
	_, err = f.Confirm(t.Context(), stranger, "123456")
	if !errs.Is(err, errs.KindNotFound) {
		t.Error("who has no account confirmed", err)
	}
}

func TestACodeCountsWithinOneStepAndNeverTwice(t *testing.T) {
	f := newFixture(t)
	secret, _ := f.enrolled(t)
	for name, tc := range map[string]struct {
		off    time.Duration
		reason string
	}{
		"of now":              {0, ""},
		"of the step before":  {-30 * time.Second, ""},
		"of the step after":   {30 * time.Second, ""},
		"of two steps before": {-time.Minute, "TOTP_INVALID"},
		"of two steps after":  {time.Minute, "TOTP_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			f.clock.pass(5 * time.Minute)
			code := f.code(t, secret, tc.off)
			f.check(t, code, tc.reason)
			f.check(t, code, "TOTP_INVALID")
		})
	}
	f.clock.pass(5 * time.Minute)
	before := f.code(t, secret, -30*time.Second)
	f.check(t, f.code(t, secret, 0), "")
	f.check(t, before, "TOTP_INVALID") // older than the last that was taken
}

func TestOfTwoCallsWithOneCodeOneWins(t *testing.T) {
	f := newFixture(t)
	secret, recovery := f.enrolled(t)
	for name, code := range map[string]string{"a code": f.code(t, secret, 0), "a recovery code": recovery[3]} {
		t.Run(name, func(t *testing.T) {
			var won atomic.Int32
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					methods, err := f.Check(t.Context(), f.user, code)
					switch {
					case err == nil && len(methods) > 0:
						won.Add(1)
					case errs.As(err) == nil ||
						errs.As(err).Reason != "TOTP_INVALID" && errs.As(err).Reason != "TOO_MANY_ATTEMPTS":
						t.Error(methods, err)
					}
				})
			}
			all.Wait()
			if won.Load() != 1 {
				t.Errorf("%d calls won", won.Load())
			}
		})
	}
}

func TestRecoveryCodesCountOnceInAnySpelling(t *testing.T) {
	f := newFixture(t)
	secret, recovery := f.enrolled(t)
	f.check(t, strings.ToUpper(strings.ReplaceAll(recovery[0], "-", " ")), "")
	f.check(t, recovery[0], "TOTP_INVALID")
	f.check(t, recovery[1][:10], "TOTP_INVALID")
	f.check(t, "\x00\xff not a code at all", "TOTP_INVALID")
	fresh, err := f.RenewRecoveryCodes(t.Context(), f.user, recovery[1])
	if err != nil || len(fresh) != 10 {
		t.Fatal(fresh, err)
	}
	f.check(t, recovery[2], "TOTP_INVALID")
	f.check(t, fresh[9], "")
	if err := f.Disable(t.Context(), f.user, "nonsense"); errs.As(err).Reason != "TOTP_INVALID" {
		t.Error(err)
	}
	if err := f.Disable(t.Context(), f.user, fresh[0]); err != nil {
		t.Fatal(err)
	}
	wantReason(t, f.Disable(t.Context(), f.user, f.code(t, secret, 0)), "TOTP_NOT_ENROLLED")
	_, err = f.RenewRecoveryCodes(t.Context(), f.user, f.code(t, secret, 0))
	wantReason(t, err, "TOTP_NOT_ENROLLED")
	if methods, err := f.Check(t.Context(), f.user, ""); err != nil || methods != nil {
		t.Error("a factor that was taken away is asked for", methods, err)
	}
}
