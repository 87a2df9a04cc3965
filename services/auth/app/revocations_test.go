package app_test

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/proto/revocations"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

// rejectedWithin is how soon every verifier that follows refuses.
const rejectedWithin = 2 * time.Second

// following is a verifier of another service: its keys over HTTP, and what was
// revoked over a stream from addr, if there is one.
func following(t *testing.T, s service, addr string) (*authn.Verifier, *authn.Revocations) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	keys := authn.NewRemoteKeys(s.http+"/.well-known/jwks.json", log)
	revoked := authn.NewRevocations(keys.Refetch, log)
	ctx, stop := context.WithCancel(context.Background())
	var following sync.WaitGroup
	t.Cleanup(func() {
		stop()
		following.Wait()
		_ = keys.Close()
	})
	if addr != "" {
		conn := dial(t, addr)
		t.Cleanup(func() { _ = conn.Close() })
		following.Go(func() { _ = revoked.Follow(ctx, revocations.Watch(conn)) })
	}
	return authn.NewVerifier(keys, authn.Options{Issuer: issuer, Revoked: revoked.Revoked}), revoked
}

// accepts fails the test unless every verifier takes the token.
func accepts(t *testing.T, token string, verifiers ...*authn.Verifier) {
	t.Helper()
	for _, v := range verifiers {
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
}

// rejected waits until every verifier refuses the token, and returns how long
// that took.
func rejected(t *testing.T, token string, verifiers ...*authn.Verifier) time.Duration {
	t.Helper()
	begun := time.Now()
	testkit.Eventually(t, time.Minute, func() bool {
		for _, v := range verifiers {
			_, err := v.Verify(t.Context(), token)
			if e := errs.As(err); e == nil || e.Reason != "TOKEN_REVOKED" {
				return false
			}
		}
		return true
	})
	return time.Since(begun)
}

func TestEveryVerifierThatFollowsRefusesWhatWasRevokedWithinTwoSeconds(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	s.register(t, "eve@example.com")
	var verifiers []*authn.Verifier
	for range testkit.Size(8, 64) {
		v, revoked := following(t, s, s.addr)
		testkit.Eventually(t, time.Minute, func() bool { return revoked.Age() < time.Second })
		verifiers = append(verifiers, v)
	}
	alone, _ := following(t, s, "")
	for _, tc := range []struct {
		name   string
		revoke func(t *testing.T, tokens *authv1.Tokens) error
	}{
		{"signing out", func(t *testing.T, tokens *authv1.Tokens) error {
			_, err := s.sessions.Logout(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()),
				&authv1.LogoutRequest{})
			return err
		}},
		{"a used refresh token", func(t *testing.T, tokens *authv1.Tokens) error {
			_, err := s.tokens.Revoke(t.Context(), &authv1.RevokeRequest{Token: tokens.GetRefreshToken()})
			return err
		}},
		{"a revoked key", func(t *testing.T, tokens *authv1.Tokens) error {
			_, err := s.admin.RevokeSigningKey(admin,
				&authv1.RevokeSigningKeyRequest{Kid: kidOf(t, tokens.GetAccessToken())})
			return err
		}},
		{"a user who was disabled", func(t *testing.T, tokens *authv1.Tokens) error {
			return s.db.Gorm(t.Context()).Exec(
				`INSERT INTO revocations (kind, subject) SELECT 'USER', id FROM users
					WHERE email = 'eve@example.com'`).Error
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var tokens *authv1.Tokens
			testkit.Eventually(t, time.Minute, func() bool { // once what was revoked before is not what signs
				tokens = s.login(t, "eve@example.com")
				_, err := verifiers[0].Verify(t.Context(), tokens.GetAccessToken())
				return err == nil
			})
			bystander := s.login(t, "ada@example.com").GetAccessToken()
			accepts(t, tokens.GetAccessToken(), append(verifiers, alone)...)
			if err := tc.revoke(t, tokens); err != nil {
				t.Fatal(err)
			}
			took := rejected(t, tokens.GetAccessToken(), verifiers...)
			if took > rejectedWithin {
				t.Errorf("it took %s", took)
			}
			testkit.Figure(t, "%s: %d streaming verifiers refuse after %s", tc.name, len(verifiers),
				took.Round(10*time.Millisecond))
			// the control: it knows of nothing before the token or the key set ends
			accepts(t, tokens.GetAccessToken(), alone)
			if tc.name != "a revoked key" {
				accepts(t, bystander, verifiers...)
			}
			// The service's own verifier, on the same call.
			_, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()),
				&authv1.GetMeRequest{})
			want(t, err, errs.KindUnauthenticated, "TOKEN_REVOKED")
		})
	}
}

func TestAUserWhoIsEnabledAgainIsNotRefused(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	v, revoked := following(t, s, s.addr)
	token := s.login(t, "ada@example.com").GetAccessToken()
	err := s.db.Gorm(t.Context()).Exec(`INSERT INTO revocations (kind, subject, at)
		SELECT 'USER', id, now() - interval '2 s' FROM users`).Error
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return revoked.Count() == 1 })
	accepts(t, token, v) // issued later
}

func TestABrokenStreamIsResumedWithAllRevocations(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	proxy := testkit.Proxy(t, s.addr)
	v, revoked := following(t, s, proxy.Addr())
	testkit.Eventually(t, time.Minute, func() bool { return revoked.Age() < time.Second })
	for i, cut := range []func(){
		func() { proxy.Disconnect() },
		func() { proxy.ToServer(faultproxy.Fault{Reset: true}); proxy.ToClient(faultproxy.Fault{Reset: true}) },
		func() { proxy.ToClient(faultproxy.Fault{CutAfter: 40}) }, // in the middle of what is told
	} {
		cut()
		tokens := s.login(t, "ada@example.com")
		accepts(t, tokens.GetAccessToken(), v)
		if _, err := s.sessions.Logout(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()),
			&authv1.LogoutRequest{}); err != nil {
			t.Fatal(err)
		}
		proxy.Heal()
		took := rejected(t, tokens.GetAccessToken(), v)
		testkit.Figure(t, "cut %d: refused %s after the network was whole again", i+1, took.Round(10*time.Millisecond))
	}
}

func TestTheStateIsStreamedInPartsAndOnce(t *testing.T) {
	s := start(t)
	const n = 2500
	err := s.db.Gorm(t.Context()).Exec(`INSERT INTO revocations (kind, subject)
		SELECT 'SESSION', gen_random_uuid() FROM generate_series(1, ?)`, n).Error
	if err != nil {
		t.Fatal(err)
	}
	_, revoked := following(t, s, s.addr)
	testkit.Eventually(t, time.Minute, func() bool { return revoked.Count() == n })
	stream, err := s.tokens.WatchRevocations(t.Context(), &authv1.WatchRevocationsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for current := false; !current; {
		m, err := stream.Recv()
		if err != nil || len(m.GetRevocations()) > 1000 {
			t.Fatal(len(m.GetRevocations()), err)
		}
		for _, r := range m.GetRevocations() {
			told[r.GetSessionId()] = true
			if left := time.Until(r.GetExpireTime().AsTime()); left < 15*time.Minute || left > 17*time.Minute {
				t.Fatalf("it counts for %s", left)
			}
		}
		current = m.GetCaughtUp()
	}
	if len(told) != n {
		t.Errorf("%d of %d were told", len(told), n)
	}
	begun := time.Now()
	if m, err := stream.Recv(); err != nil || len(m.GetRevocations()) != 0 || !m.GetCaughtUp() ||
		time.Since(begun) > 2*authn.RevocationHeartbeat {
		t.Errorf("the heartbeat is %v, %v after %s", m, err, time.Since(begun))
	}
}

func TestTheStreamsOfAnAddressAreLimited(t *testing.T) {
	s := start(t, "PURSER_REVOCATIONS_STREAMS_PER_ADDRESS=3")
	open := func() (context.CancelFunc, error) {
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := s.tokens.WatchRevocations(ctx, &authv1.WatchRevocationsRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return cancel, err
	}
	var cancel context.CancelFunc
	for range 3 {
		var err error
		if cancel, err = open(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := open()
	want(t, err, errs.KindExhausted, "TOO_MANY_STREAMS")
	cancel()
	testkit.Eventually(t, time.Minute, func() bool { _, err := open(); return err == nil })
}

// One address opens streams as fast as it can. Another address, and a service account at the attacker's own address,
// still get theirs; without an identity the attacker's neighbours do not, which is the control.
func TestAnAddressThatTakesAllItsStreamsDeniesThemToNobodyElse(t *testing.T) {
	s := start(t, "PURSER_REVOCATIONS_STREAMS_PER_ADDRESS=50")
	account := s.serve(t, s.asAdmin(t), "verifier")
	from := func(ip string) authv1.TokenServiceClient {
		conn, err := grpc.NewClient("passthrough:///"+s.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
				return d.DialContext(ctx, "tcp", addr)
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return authv1.NewTokenServiceClient(conn)
	}
	open := func(ctx context.Context, c authv1.TokenServiceClient) error {
		stream, err := c.WatchRevocations(ctx, &authv1.WatchRevocationsRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	attacker, taken := from("127.0.0.1"), 0
	for range 200 {
		if open(t.Context(), attacker) == nil {
			taken++
		}
	}
	if taken != 50 {
		t.Fatalf("the attacker has %d", taken)
	}
	neighbour := from("127.0.0.1")
	if err := open(t.Context(), neighbour); status.Code(err) != grpccodes.ResourceExhausted {
		t.Errorf("the control: a neighbour without an identity gets %v", err)
	}
	for range 10 {
		if err := open(account, neighbour); err != nil {
			t.Errorf("a service account at the attacker's address: %v", err)
		}
		if err := open(t.Context(), from("127.0.0.2")); err != nil {
			t.Errorf("another address: %v", err)
		}
	}
	s.register(t, "eve@example.com")
	user := grpcclient.WithToken(t.Context(), s.login(t, "eve@example.com").GetAccessToken())
	for what, ctx := range map[string]context.Context{
		"a user, of whom anybody can register many": user,
		"a token that is none":                      grpcclient.WithToken(t.Context(), "nonsense"),
	} {
		if err := open(ctx, attacker); status.Code(err) != grpccodes.ResourceExhausted {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAReplicaThatCanNotReadTheDatabaseEndsItsStreams(t *testing.T) {
	t.Parallel() // it mostly waits
	db := testkit.Postgres(t, migrations.FS)
	proxy := testkit.Proxy(t, db.URL)
	s := startOn(t, db, proxy.Rewrite(db.URL))
	watch := func() (*authv1.WatchRevocationsResponse, grpc.ServerStreamingClient[authv1.WatchRevocationsResponse],
		error) {
		stream, err := s.tokens.WatchRevocations(t.Context(), &authv1.WatchRevocationsRequest{})
		if err != nil {
			return nil, nil, err
		}
		m, err := stream.Recv()
		return m, stream, err
	}
	m, stream, err := watch()
	if err != nil || !m.GetCaughtUp() {
		t.Fatal(m, err)
	}
	proxy.ToServer(faultproxy.Fault{Blackhole: true})
	proxy.Disconnect()
	for err == nil {
		_, err = stream.Recv()
	}
	want(t, err, errs.KindUnavailable, "REVOCATIONS_UNAVAILABLE")
	_, _, err = watch()
	want(t, err, errs.KindUnavailable, "REVOCATIONS_UNAVAILABLE")
	proxy.Heal()
	testkit.Eventually(t, time.Minute, func() bool { _, _, err := watch(); return err == nil })
}

func TestRevocationsArePrunedOnceTheirTokensHaveExpired(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	err := db.Gorm(t.Context()).Exec(`INSERT INTO revocations (kind, subject, at)
		SELECT 'SESSION', gen_random_uuid(), now() - n * interval '1 s' FROM generate_series(1, 2500) n`).Error
	if err != nil {
		t.Fatal(err)
	}
	revocations := store.NewRevocations(db.DB)
	if err := revocations.Prune(t.Context(), 500*time.Second); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := db.Gorm(t.Context()).Raw("SELECT count(*) FROM revocations").Row().Scan(&left); err != nil ||
		left < 450 || left > 500 {
		t.Errorf("%d of the last 500 seconds are left, %v", left, err)
	}
}
