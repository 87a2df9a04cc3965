package session_test

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/session"
)

func TestConcurrentRefreshesNeverForkNorEndAFamilyAndReplaysAlwaysDo(t *testing.T) {
	f := newFixture(t)
	families := make([]family, testkit.Size(24, 10_000))
	var forked, refused atomic.Int32
	var some errgroup.Group
	some.SetLimit(4)
	for i := range families {
		some.Go(func() error {
			begun, err := f.Login(t.Context(), email, password, "")
			if err != nil {
				return err
			}
			successors, failures := f.race(t, timed{f.store, f.clock}, begun.Refresh)
			refused.Add(int32(len(failures)))
			for _, failure := range failures {
				t.Logf("refused: %v", failure)
			}
			if len(successors) != 1 {
				forked.Add(1)
			}
			families[i] = family{begun.Refresh, slices.Collect(maps.Keys(successors))[0]}
			if i%2 == 0 { // and is used itself
				again, err := f.Refresh(t.Context(), session.Token(families[i].newest))
				families[i].newest = again.Refresh
				return err
			}
			return nil
		})
	}
	if err := some.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := f.count(t, "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL"); int(
		forked.Load()+refused.Load())+n > 0 {
		t.Errorf("%d families forked, %d refreshes were refused, %d families were revoked", forked.Load(),
			refused.Load(), n)
	}
	testkit.Figure(t, "%d refreshes at once of each of %d families: %d forked, %d refused, %d revoked", callers,
		len(families), forked.Load(), refused.Load(),
		f.count(t, "SELECT count(*) FROM sessions WHERE revoked_at IS NOT NULL"))

	f.clock.pass(61 * time.Second)
	var slowest time.Duration
	for _, fam := range families {
		begun := time.Now()
		f.refused(t, fam.first, "REFRESH_TOKEN_REUSED")
		f.refused(t, fam.newest, "SESSION_REVOKED")
		slowest = max(slowest, time.Since(begun))
	}
	if slowest > time.Second {
		t.Errorf("a family was refreshed for %s after a replay", slowest)
	}
	testkit.Figure(t, "used tokens presented after 61 s: %d of %d ended their family, the last use of it refused "+
		"within %s",
		f.count(t, "SELECT count(*) FROM sessions WHERE revoke_reason = 'REFRESH_TOKEN_REUSED'"), len(families),
		slowest.Round(time.Millisecond))
}

type family struct{ first, newest string }

// A user who has pressed "log out everywhere" while tabs are refreshing must
// not be left with a tab that goes on.
func TestRefreshesBesideALogoutOfAllLeaveNoneAlive(t *testing.T) {
	f := newFixture(t)
	for range testkit.Size(20, 500) {
		token := f.login(t).Refresh
		var all sync.WaitGroup
		got := make(chan string, 8)
		for range cap(got) {
			all.Go(func() {
				tokens, err := f.Refresh(t.Context(), session.Token(token))
				if err == nil {
					got <- tokens.Refresh
				} else if !errs.Is(err, errs.KindUnauthenticated) {
					t.Error(err)
				}
			})
		}
		all.Go(func() {
			if err := f.LogoutAll(t.Context(), f.user); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
		close(got)
		for newest := range got {
			f.refused(t, newest, "SESSION_REVOKED")
		}
	}
}
