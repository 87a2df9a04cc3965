package session_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/session"
)

func TestARefreshGivesANewPairAndUsesTheOldTokenUp(t *testing.T) {
	f := newFixture(t)
	first := f.login(t)
	second := f.refresh(t, first.Refresh)
	third := f.refresh(t, second.Refresh)
	if first.Refresh == second.Refresh || second.Refresh == third.Refresh || first.Refresh == third.Refresh {
		t.Error("a refresh token was given twice")
	}
	if second.Access != first.Access || second.Access == "" {
		t.Errorf("the session or its roles changed: %q, then %q", first.Access, second.Access)
	}
	f.clock.pass(10 * time.Second)
	f.refused(t, first.Refresh, "REFRESH_TOKEN_REUSED")
}

func TestADuplicateWithinTheRecoveryGetsTheIdenticalSuccessor(t *testing.T) {
	f := newFixture(t)
	first := f.login(t)
	second := f.refresh(t, first.Refresh)
	for range 3 {
		f.clock.pass(19 * time.Second)
		if again := f.refresh(t, first.Refresh); again.Refresh != second.Refresh ||
			!again.RefreshExpiresAt.Equal(second.RefreshExpiresAt) {
			t.Fatal("the duplicate got another successor")
		}
	}
	f.refresh(t, second.Refresh) // and it works
}

func TestReuseAfterTheRecoveryEndsTheSession(t *testing.T) {
	f := newFixture(t)
	first := f.login(t)
	second := f.refresh(t, first.Refresh)
	f.clock.pass(time.Minute)
	f.refused(t, first.Refresh, "REFRESH_TOKEN_REUSED")
	f.refused(t, second.Refresh, "SESSION_REVOKED")
	f.refused(t, first.Refresh, "SESSION_REVOKED")
	if n := f.count(t, "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL AND revoke_reason = "+
		"'REFRESH_TOKEN_REUSED' AND NOT EXISTS "+
		"(SELECT FROM refresh_tokens WHERE sealed_successor IS NOT NULL)"); n != 1 {
		t.Error("the revocation is not stored with its reason")
	}
}

// Two tabs share a token; neither may be left with one that is used up.
func TestWithinTenSecondsEveryUsedTokenGetsTheNewestSuccessor(t *testing.T) {
	f := newFixture(t)
	first := f.login(t)
	f.clock.pass(time.Hour)
	second := f.refresh(t, first.Refresh)
	f.clock.pass(3 * time.Second)
	third := f.refresh(t, second.Refresh)
	f.clock.pass(3 * time.Second)
	newest := f.refresh(t, third.Refresh)
	for _, used := range []session.Tokens{first, second, third} {
		if again := f.refresh(t, used.Refresh); again.Refresh != newest.Refresh {
			t.Fatal("the tabs have forked")
		}
	}
	f.clock.pass(9 * time.Second) // ten and more after the first two
	if again := f.refresh(t, third.Refresh); again.Refresh != newest.Refresh {
		t.Fatal("the last one used has a minute")
	}
	f.refused(t, second.Refresh, "REFRESH_TOKEN_REUSED")
	f.refused(t, newest.Refresh, "SESSION_REVOKED")
}

func TestATokenWhoseSuccessorWasUsedIsReuseAfterTenSeconds(t *testing.T) {
	for _, tc := range []struct {
		name  string
		chain int // refreshes after the token that is used again
	}{
		{"the token before the previous one", 2},
		{"a token of long ago", 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			old := f.login(t)
			newest, other := old, f.login(t)
			for range tc.chain {
				newest = f.refresh(t, newest.Refresh)
			}
			f.clock.pass(10 * time.Second)
			f.refused(t, old.Refresh, "REFRESH_TOKEN_REUSED")
			f.refused(t, newest.Refresh, "SESSION_REVOKED")
			f.refresh(t, other.Refresh) // another session of the user goes on
		})
	}
}

func TestTokensThatWereNeverGivenAreInvalid(t *testing.T) {
	f := newFixture(t)
	real := f.login(t)
	for name, token := range map[string]string{
		"a random token":             string(session.NewToken()),
		"an empty one":               "",
		"the real one less its last": real.Refresh[:len(real.Refresh)-1],
		"the real one with padding":  real.Refresh + "=",
		"bytes that are no text":     "\x00\xff",
	} {
		t.Run(name, func(t *testing.T) { f.refused(t, token, "REFRESH_TOKEN_INVALID") })
	}
	f.refresh(t, real.Refresh)
}

func TestATokenSlidesUntilTheSessionEnds(t *testing.T) {
	f := newFixture(t)
	begun := f.clock.now()
	tokens := f.login(t)
	for _, step := range []struct{ pass, left time.Duration }{
		{23 * time.Hour, 24 * time.Hour}, // used an hour before its end: a day again
		{23 * time.Hour, 24 * time.Hour},
		{23 * time.Hour, 3 * time.Hour}, // the session ends after 72 hours in all
	} {
		f.clock.pass(step.pass)
		tokens = f.refresh(t, tokens.Refresh)
		if left := tokens.RefreshExpiresAt.Sub(f.clock.now()); left != step.left {
			t.Fatalf("%s in, the token is good for %s, want %s", f.clock.now().Sub(begun), left, step.left)
		}
	}
	f.clock.pass(3 * time.Hour)
	f.refused(t, tokens.Refresh, "REFRESH_TOKEN_EXPIRED")
}

func TestATokenThatWasNotUsedInTimeHasExpiredAndNothingIsRevoked(t *testing.T) {
	f := newFixture(t)
	tokens := f.login(t)
	f.clock.pass(24*time.Hour - time.Microsecond)
	tokens = f.refresh(t, tokens.Refresh)
	f.clock.pass(24 * time.Hour)
	f.refused(t, tokens.Refresh, "REFRESH_TOKEN_EXPIRED")
	if n := f.count(t, "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL"); n != 0 {
		t.Error("the session was revoked")
	}
}

// A client that is told UNAVAILABLE keeps its token and tries again. However
// long the signer is unavailable, that is no theft.
func TestASignerThatIsAwayUsesNoTokenUp(t *testing.T) {
	f := newFixture(t)
	tokens := f.login(t)
	f.signer.unavailable = true
	for range 3 {
		if _, err := f.Refresh(t.Context(), session.Token(tokens.Refresh)); !errs.Is(err, errs.KindUnavailable) {
			t.Fatalf("refresh answered %v", err)
		}
		f.clock.pass(time.Hour)
	}
	f.signer.unavailable = false
	f.refresh(t, tokens.Refresh)
}

func TestASessionThatIsRefreshedTooOftenWaits(t *testing.T) {
	f := newFixture(t)
	first := f.login(t).Refresh
	newest := first
	for range 32 {
		newest = f.refresh(t, newest).Refresh
	}
	_, err := f.Refresh(t.Context(), session.Token(newest))
	if e := errs.As(err); e == nil || e.Reason != "REFRESHED_TOO_OFTEN" || e.RetryAfter <= 0 {
		t.Fatalf("the 33rd refresh within ten seconds: %v", err)
	}
	if again := f.refresh(t, first); again.Refresh != newest {
		t.Error("the first token, presented again, got another than the newest")
	}
	f.clock.pass(10 * time.Second)
	f.refresh(t, newest)
}

const callers = 50

// The control: the same race over a store that doesn't lock forks the family.
func TestWithoutTheLockTheRaceForks(t *testing.T) {
	f := newFixture(t)
	u := &unlocked{Store: timed{f.store, f.clock}, f: f}
	u.read.Add(callers)
	if successors, _ := f.race(t, u, f.login(t).Refresh); len(successors) < 2 {
		t.Fatalf("%d successors: the race proves nothing", len(successors))
	}
}

// race refreshes one token many times at once and returns the distinct
// successors and the failures. A caller that is told that the database is busy, as
// on a machine that is, tries again, as clients do.
func (f fixture) race(t *testing.T, s session.Store, token string) (map[string]bool, []error) {
	t.Helper()
	service := f.over(s)
	var (
		all        sync.WaitGroup
		mu         sync.Mutex
		successors = map[string]bool{}
		failures   []error
	)
	begin := make(chan struct{})
	for range callers {
		all.Go(func() {
			<-begin
			tokens, err := service.Refresh(t.Context(), session.Token(token))
			for tries := 1; tries < 10 && errs.Is(postgres.Translate(err), errs.KindUnavailable); tries++ {
				tokens, err = service.Refresh(t.Context(), session.Token(token))
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, err)
				return
			}
			successors[tokens.Refresh] = true
		})
	}
	close(begin)
	all.Wait()
	return successors, failures
}

// unlocked reads the family, waits until everybody has, and writes.
type unlocked struct {
	session.Store
	f    fixture
	read sync.WaitGroup
}

// Change implements session.Store without its lock.
func (u *unlocked) Change(ctx context.Context, token session.Hash, change session.Change) error {
	var f session.Family
	var hash []byte
	err := u.f.db.SQL().QueryRowContext(ctx, `
		SELECT s.id, s.user_id, s.created_at, s.expires_at, s.current_hash, s.current_expires_at
		FROM sessions s JOIN refresh_tokens t ON t.session_id = s.id WHERE t.token_hash = $1`, token[:]).
		Scan(&f.ID, &f.UserID, &f.CreatedAt, &f.ExpiresAt, &hash, &f.CurrentExpiresAt)
	u.read.Done()
	if err != nil {
		return err
	}
	u.read.Wait()
	f.Current = session.Hash(hash)
	if f, _, err = change(f, account.AccessState{}, u.f.clock.now()); err != nil {
		return err
	}
	_, err = u.f.db.SQL().ExecContext(ctx, `
		WITH t AS (INSERT INTO refresh_tokens VALUES ($2, $1))
		UPDATE sessions SET current_hash = $2 WHERE id = $1`, f.ID, f.Current[:])
	return err
}
