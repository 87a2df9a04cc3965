package suitetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// refusedWithin is how long a verifier may accept a token whose authority was ended: docs/protect-your-service.md.
const refusedWithin = 2 * time.Second

// endingsAtOnce is how many authorities are ended at a time.
const endingsAtOnce = 4

// atOnceRefused reports whether a method is refused as soon as the authority of its caller has ended, whatever their
// token says: those of auth that change something, and TriggerJob of every service (docs/decisions/0070).
func atOnceRefused(m method) bool {
	pkg := m.ParentFile().Package()
	return m.changes && m.need != anybody && (pkg == "purser.auth.v1" || pkg == "purser.jobs.v1")
}

// endsItself reports whether a method only ends the authority of the token that it is called with, which harms nobody.
func endsItself(m method) bool { return m.full == authv1.SessionService_Logout_FullMethodName }

// quietly are authorities that ended in the database without a word to any verifier: the worst case of one that hears
// of it too late. Each token verifies, so that nothing but the check in the transaction of the change refuses it.
func quietly(mint *mint) []authority {
	ended := func(name string, make func(context.Context, *testing.T) made, want func(method) []string,
		queries ...string) authority {
		return authority{name + ", and no verifier heard of it",
			func(ctx context.Context, t *testing.T) ([]string, targets) {
				p := make(ctx, t)
				for _, query := range queries {
					arg := p.id
					if strings.Contains(query, "/* session */") {
						arg = p.session
					}
					mint.exec(ctx, t, query, arg)
				}
				return []string{"Bearer " + p.token}, p.values
			}, want}
	}
	all := func(reasons ...string) func(method) []string {
		return func(m method) []string {
			if endsItself(m) {
				return append(slices.Clone(reasons), allowed)
			}
			return reasons
		}
	}
	ofPermission := func(m method) []string {
		if m.permission != "" {
			return []string{"PERMISSION_MISSING"}
		}
		return []string{allowed}
	}
	person := func(ctx context.Context, t *testing.T) made { return mint.person(ctx, t, nil) }
	// What is for people may say that first.
	ofProgram := func(reasons ...string) func(method) []string {
		return func(m method) []string {
			switch m.need {
			case operator:
				return reasons
			case signedIn:
				return append(slices.Clone(reasons), allowed)
			}
			return append(slices.Clone(reasons), "SERVICE_CALLER")
		}
	}
	program := func(ctx context.Context, t *testing.T) made { return mint.program(ctx, t, everyPermission()...) }
	// wallet and portfolio ask auth, and say of whatever has ended that the token was revoked.
	return []authority{
		ended("a session that was ended", person, all("SESSION_REVOKED", "TOKEN_REVOKED"),
			`UPDATE sessions /* session */ SET revoked_at = now() WHERE id = $1`),
		ended("a session that expired", person, all("SESSION_REVOKED", "TOKEN_REVOKED"),
			`UPDATE sessions /* session */ SET expires_at = now() - interval '1 second' WHERE id = $1`),
		ended("a user who was disabled", person, all("ACCOUNT_DISABLED", "TOKEN_REVOKED"),
			`UPDATE users SET disabled_at = now() WHERE id = $1`),
		ended("a user who was deleted", person, all("SESSION_REVOKED", "TOKEN_REVOKED"),
			`DELETE FROM users WHERE id = $1`),
		ended("an admin who is none any more", person, ofPermission, `DELETE FROM user_roles WHERE user_id = $1`),
		ended("an admin who is a trader now", person, ofPermission,
			`UPDATE user_roles SET role = 'trader' WHERE user_id = $1`),
		ended("a secret that was replaced", program, ofProgram("SESSION_REVOKED", "TOKEN_REVOKED"),
			`UPDATE service_secrets /* session */ SET expires_at = now() WHERE id = $1`),
		ended("a service account that was disabled", program, ofProgram("ACCOUNT_DISABLED", "TOKEN_REVOKED"),
			`UPDATE service_accounts SET disabled_at = now() WHERE id = $1`),
		ended("a service account that lost its permissions", program, ofProgram("PERMISSION_MISSING"),
			`UPDATE service_accounts SET permissions = '["wallet:read"]' WHERE id = $1`),
	}
}

// tryQuietly calls what is refused at once.
func (x *matrix) tryQuietly(t *testing.T, mint *mint) {
	t.Helper()
	only := *x // counts the cells together
	only.methods = slices.DeleteFunc(slices.Clone(x.methods), func(m method) bool { return !atOnceRefused(m) })
	for _, a := range quietly(mint) {
		only.try(t, a)
	}
}

// ending is an authority that is ended as somebody would, and what it leaves.
type ending struct {
	name  string
	token string
	own   targets
	who   uuid.UUID
	end   func() error
	took  [3]time.Duration // until auth, wallet and portfolio refused the token
}

// Every authority is ended by a call, and used at once to change something, and then everywhere.
func (x *matrix) tryEndings(t *testing.T, mint *mint) {
	t.Helper()
	c := dial(t, x.s.Endpoints)
	endings := x.endings(t, mint, c)
	// All at once they would be more calls than a pool of connections serves in its time on a slow machine.
	var some errgroup.Group
	some.SetLimit(endingsAtOnce)
	for _, e := range endings {
		some.Go(func() error { x.tryEnding(t, e); return nil })
	}
	_ = some.Wait()
	for _, e := range endings {
		if strings.HasPrefix(e.name, "DeleteMe") { // what they have goes by a job
			x.waitForErasure(t, e.who)
		}
	}
	var slowest time.Duration
	before := x.stores.digest(t.Context(), t)
	for _, e := range endings {
		for i, took := range e.took {
			if took > refusedWithin {
				t.Errorf("%s: %s accepted the token for %s", e.name, []string{"auth", "wallet", "portfolio"}[i], took)
			}
			slowest = max(slowest, took)
		}
		x.each(func(m method) bool { return m.need != anybody }, func(m method) {
			err := m.call(t.Context(), m.request(t, x.values, x.jobOf(m), e.own), "Bearer "+e.token)
			x.cell(t, e.name, m, err, []string{"TOKEN_REVOKED"})
		})
	}
	if tables := before.changed(x.stores.digest(t.Context(), t)); len(tables) > 0 {
		t.Errorf("calls with revoked tokens changed %v", tables)
	}
	testkit.Figure(t, "%d ways to end an authority: no change after it, refused everywhere within %s", len(endings),
		slowest.Round(time.Millisecond))
}

// waitForErasure waits until nothing of a user who was deleted is left to erase.
func (x *matrix) waitForErasure(t *testing.T, who uuid.UUID) {
	t.Helper()
	for _, service := range erasing() {
		testkit.Eventually(t, time.Minute, func() bool {
			var erased int
			err := x.stores[service].QueryRow(t.Context(),
				"SELECT count(*) FROM erased_owners WHERE owner_id = $1 AND erased_at IS NOT NULL", who).Scan(&erased)
			if err != nil {
				t.Fatal(err)
			}
			return erased == 1
		})
	}
}

// refusedBy measures for how long a token is accepted after a moment: until the last accepted call of a method of
// auth, wallet and portfolio began.
func (x *matrix) refusedBy(t *testing.T, token string, ended time.Time) (took [3]time.Duration) {
	t.Helper()
	for i, full := range []string{authv1.AccountService_GetMe_FullMethodName,
		"/purser.wallet.v1.TokenService/ListChains", "/purser.portfolio.v1.PortfolioService/ListSnapshots"} {
		m := x.methods[slices.IndexFunc(x.methods, func(m method) bool { return m.full == full })]
		testkit.Eventually(t, 20*time.Second, func() bool {
			began := time.Now()
			if reasonOf(m.call(t.Context(), m.request(t), "Bearer "+token)) == "TOKEN_REVOKED" {
				return true
			}
			took[i] = began.Sub(ended)
			return false
		})
	}
	return took
}

// tryRevokedKey revokes the key of the test: nothing that it has signed is good for anything after that, whoever it is
// of.
func (x *matrix) tryRevokedKey(t *testing.T, mint *mint) {
	t.Helper()
	p := mint.person(t.Context(), t, nil)
	err := get(dial(t, x.s.Endpoints).AuthAdmin.RevokeSigningKey(bearing(t.Context(), p.token),
		&authv1.RevokeSigningKeyRequest{Kid: mint.kid}))
	if err != nil {
		t.Fatal(err)
	}
	took := x.refusedBy(t, p.token, time.Now())
	if slowest := slices.Max(took[:]); slowest > refusedWithin {
		t.Errorf("a token of a revoked key was accepted for %s", slowest)
	}
	x.try(t, unauthenticated("a revoked signing key", "TOKEN_REVOKED", "Bearer "+p.token))
	never := mint.sign(t, mint.claims(p.id, p.session), nil) // that no verifier has seen before
	x.try(t, unauthenticated("a new token of a revoked signing key", "TOKEN_REVOKED", "Bearer "+never))
}

// streams opens every stream that needs a token, and returns a function that waits for the end of each, which comes a
// second after the verifier knows at the latest.
func (x *matrix) streams(t *testing.T, token string) (wait func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(bearing(t.Context(), token))
	type running struct {
		grpc.ClientStream
		method
	}
	var open []running
	for _, m := range x.methods {
		if !m.IsStreamingServer() || m.need == anybody {
			continue
		}
		s, err := m.open(ctx, m.request(t, x.values))
		if err != nil {
			t.Errorf("%s: %v", m.full, err)
			continue
		}
		open = append(open, running{s, m})
	}
	return func() error {
		end := time.AfterFunc(20*time.Second, cancel)
		defer end.Stop()
		defer cancel()
		for _, s := range open {
			for {
				err := s.RecvMsg(dynamicpb.NewMessage(s.Output()))
				if _, refused := refusals()[reasonOf(err)]; refused {
					break
				}
				// One that ends by itself has ended, or never began beside those of the others.
				if endsByItself(s.full) && (errors.Is(err, io.EOF) || reasonOf(err) == "TOO_MANY_STREAMS") {
					break
				}
				if err != nil {
					return fmt.Errorf("%s: %w", s.full, err)
				}
			}
		}
		return nil
	}
}

// endsByItself reports whether a stream ends once everything is read.
func endsByItself(method string) bool {
	switch method {
	case walletv1.HoldingsService_StreamHoldings_FullMethodName,
		walletv1.TransactionService_StreamTransactions_FullMethodName,
		portfoliov1.PortfolioService_ExportSnapshots_FullMethodName,
		portfoliov1.LotService_ExportLots_FullMethodName:
		return true
	}
	return false
}

// tryEnding ends an authority, and checks that its changes are refused at once, its reads soon, and that its streams
// end.
func (x *matrix) tryEnding(t *testing.T, e *ending) {
	ends := x.streams(t, e.token)
	var err error
	testkit.Eventually(t, time.Minute, func() bool { // beside the others; nothing was done then
		err = e.end()
		return status.Code(err) != codes.Unavailable
	})
	if err != nil {
		t.Errorf("%s: %v", e.name, err)
		return
	}
	ended := time.Now()
	events := x.eventsBy(t, e.who)
	x.each(func(m method) bool { return atOnceRefused(m) && !endsItself(m) }, func(m method) {
		err := m.call(t.Context(), m.request(t, x.values, x.jobOf(m), e.own), "Bearer "+e.token)
		x.cell(t, e.name+", at once", m, err, []string{"TOKEN_REVOKED", "SESSION_REVOKED", "ACCOUNT_DISABLED",
			"PERMISSION_MISSING", "API_KEY_CALLER", "SERVICE_CALLER"})
	})
	if n := x.eventsBy(t, e.who) - events; n > 0 {
		t.Errorf("%s: %d changes after it", e.name, n)
	}
	e.took = x.refusedBy(t, e.token, ended)
	if err := ends(); err != nil {
		t.Errorf("%s: a stream ended with %v", e.name, err)
	}
}

// eventsBy counts the changes that somebody made, by the audit.
func (x *matrix) eventsBy(t *testing.T, who uuid.UUID) (n int) {
	t.Helper()
	err := x.stores["auth"].QueryRow(t.Context(),
		`SELECT count(*) FROM audit_events WHERE actor = $1 AND outcome = 'OK'`, who).Scan(&n)
	if err != nil {
		t.Error(err)
	}
	return n
}
