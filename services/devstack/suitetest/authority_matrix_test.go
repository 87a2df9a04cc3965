package suitetest

import (
	"context"
	"encoding/base64"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/errs/grpcerr"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// refusals are the reasons with which a caller is refused, whatever they ask for, and their codes.
func refusals() map[string]codes.Code {
	return map[string]codes.Code{
		"TOKEN_MISSING": codes.Unauthenticated, "TOKEN_INVALID": codes.Unauthenticated,
		"TOKEN_EXPIRED": codes.Unauthenticated, "TOKEN_REVOKED": codes.Unauthenticated,
		"SESSION_REVOKED": codes.Unauthenticated, "ACCOUNT_DISABLED": codes.Unauthenticated,
		"PERMISSION_MISSING": codes.PermissionDenied, "NO_ACCESS_RULE": codes.PermissionDenied,
		"API_KEY_CALLER": codes.PermissionDenied, "SERVICE_CALLER": codes.PermissionDenied,
		"REAUTHENTICATION_REQUIRED": codes.PermissionDenied,
		"KEYS_UNAVAILABLE":          codes.Unavailable, "AUTH_UNAVAILABLE": codes.Unavailable,
	}
}

// authority is something that is sent for a right to call, to every method.
type authority struct {
	name string
	// send returns the authorization headers and, of a caller who exists, the ids of what is theirs.
	send func(ctx context.Context, t *testing.T) ([]string, targets)
	// refusedWith are the reasons that a method refuses the caller with, one of them. With none the call has to get
	// past all checks of its caller; with allowed among them it may.
	refusedWith func(m method) []string
}

// notTried stands for a method that an authority is not tried on, because another authority shows the same.
const notTried = "not tried"

// allowed stands among reasons for an answer that is no refusal.
const allowed = ""

// matrix tries authorities on methods.
type matrix struct {
	s       *suite.Suite
	methods []method
	stores  databases
	values  targets // of requests: what exists and belongs to others
	cells   *atomic.Int64
}

// atOnce is how many cells are tried at a time.
const atOnce = 8

// each runs fn for each method that want takes, some at a time.
func (x *matrix) each(want func(method) bool, fn func(method)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, m := range x.methods {
		if want(m) {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				fn(m)
			})
		}
	}
	wg.Wait()
}

// try calls all methods with an authority, and compares the databases before and after the calls that are refused. A
// call that is not refused and may change something has a caller of its own, since it may change them.
func (x *matrix) try(t *testing.T, a authority) {
	t.Helper()
	refused := func(m method) bool {
		want := a.refusedWith(m)
		return len(want) > 0 && !slices.Contains(want, allowed) && !slices.Contains(want, notTried)
	}
	passes := func(m method) bool { return !refused(m) && !slices.Contains(a.refusedWith(m), notTried) }
	header, own := a.send(t.Context(), t)
	before := x.stores.digest(t.Context(), t)
	x.each(refused, func(m method) {
		x.cell(t, a.name, m, m.call(t.Context(), m.request(t, x.values, x.jobOf(m), own), header...), a.refusedWith(m))
	})
	if tables := before.changed(x.stores.digest(t.Context(), t)); len(tables) > 0 {
		t.Errorf("%s: calls that were refused changed %v", a.name, tables)
	}
	x.each(passes, func(m method) {
		header, own := header, own
		if m.changes && m.need != anybody {
			header, own = a.send(t.Context(), t)
		}
		x.cell(t, a.name, m, m.call(t.Context(), m.request(t, x.values, x.jobOf(m), own), header...), a.refusedWith(m))
	})
}

// jobOf names a job of the service that serves a method.
func (x *matrix) jobOf(m method) targets {
	return targets{"job": map[string]string{x.s.Endpoints.Auth: "seal_audit", x.s.Endpoints.Wallet: "sync_wallets",
		x.s.Endpoints.Portfolio: "take_snapshots"}[m.addr]}
}

// cell checks one answer; on failure it writes one line.
func (x *matrix) cell(t *testing.T, authority string, m method, err error, want []string) {
	t.Helper()
	x.cells.Add(1)
	code, reason := status.Code(err), reasonOf(err)
	wantCode, isRefusal := refusals()[reason]
	isRefusal = isRefusal || code == codes.Unimplemented || code == codes.Unavailable
	mayPass := len(want) == 0 || slices.Contains(want, allowed)
	if !isRefusal && mayPass || isRefusal && slices.Contains(want, reason) && code == wantCode {
		return
	}
	expected := strings.Join(want, " or ")
	if expected == "" {
		expected = "no refusal"
	}
	t.Errorf("%-45s | %-50s | %s %s, want %s", m.name(x.s), authority, code, reason, expected)
}

// unauthenticated is an authority of nobody: every method but the public ones refuses it.
func unauthenticated(name, reason string, header ...string) authority {
	return authority{name, func(context.Context, *testing.T) ([]string, targets) { return header, nil },
		func(m method) []string {
			if m.need == anybody {
				return nil
			}
			return []string{reason}
		}}
}

// Every method of every service is called with every authority that is wrong, meant for something else, or ended. The
// methods, their rules and their requests come from the contracts, so that a new method is covered at once.
func TestEveryMethodRefusesEveryWrongOrOutlivedAuthority(t *testing.T) {
	t.Parallel()
	x, m := startMatrix(t)
	if len(x.methods) < 80 {
		t.Errorf("only %d methods", len(x.methods))
	}
	t.Run("wrong", func(t *testing.T) {
		for _, a := range slices.Concat(wrongHeaders(t, x.s), wrongTokens(t, m), callersOfAKind(m)) {
			x.try(t, a)
		}
	})
	t.Run("ended, and no verifier heard of it", func(t *testing.T) { x.tryQuietly(t, m) })
	t.Run("ended", func(t *testing.T) { x.tryEndings(t, m) })
	t.Run("credentials", func(t *testing.T) { x.tryCredentials(t, m) })
	t.Run("a revoked signing key", func(t *testing.T) { x.tryRevokedKey(t, m) })
	testkit.Figure(t, "%d cells of %d methods with a wrong or outlived authority", x.cells.Load(), len(x.methods))
}

// startMatrix starts a suite that does nothing by itself and does not limit its callers.
func startMatrix(t *testing.T) (*matrix, *mint) {
	t.Helper()
	never := "=0 0 29 2 *"
	unlimited := []string{"PURSER_GRPC_RATE_PER_SECOND=100000", "PURSER_GRPC_BURST=100000"}
	s := start(t, func(o *suite.Options) {
		// It refuses much.
		o.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
		o.Extra = map[string][]string{
			"auth": append([]string{"PURSER_KEYS_POLL=100ms", "PURSER_KEYS_SIGNER_LEASE=30s",
				"PURSER_KEYS_ROTATION_CRON" + never, "PURSER_ATTEMPTS_PER_ADDRESS=100000",
				"PURSER_AUTH_FLOOR=0s"}, unlimited...),
			// Its jobs keep the blocks that they saw.
			"wallet": append([]string{"PURSER_SYNC_CRON" + never, "PURSER_TRANSACTIONS_CRON" + never}, unlimited...),
			"portfolio": append([]string{"PURSER_SNAPSHOT_CRON" + never, "PURSER_RECOMPUTE_CRON" + never,
				"PURSER_ALERTS_EVERY=1h"}, unlimited...),
		}
	})
	x := &matrix{s: s, cells: new(atomic.Int64), methods: methods(t, s), stores: connect(t, s.Postgres.URL)}
	m := newMint(t, s, x.stores["auth"])
	victim, worker := m.person(t.Context(), t, nil), m.program(t.Context(), t, "wallet:read")
	x.values = targets{"user_id": victim.id.String(), "service_account_id": worker.id.String()}
	// portfolio follows wallet, which so has a key set without the test's key, and doesn't fetch it again at once.
	c, as := dial(t, s.Endpoints), grpcclient.WithToken(t.Context(), victim.token)
	testkit.Eventually(t, time.Minute, func() bool {
		_, err := c.Wallets.ListWallets(as, &walletv1.ListWalletsRequest{})
		return err == nil
	})
	return x, m
}

// wrongHeaders are authorization headers without an access token.
func wrongHeaders(t *testing.T, s *suite.Suite) []authority {
	t.Helper()
	c := dial(t, s.Endpoints)
	ctx, tokens := signIn(t, c)
	key, err := c.APIKeys.CreateApiKey(ctx, &authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	access := tokens.GetAccessToken()
	return []authority{
		unauthenticated("no header", "TOKEN_MISSING"),
		unauthenticated("an empty header", "TOKEN_INVALID", ""),
		unauthenticated("Bearer alone", "TOKEN_INVALID", "Bearer"),
		unauthenticated("Bearer and a space", "TOKEN_MISSING", "Bearer "),
		unauthenticated("garbage", "TOKEN_INVALID", "garbage"),
		unauthenticated("Bearer and garbage", "TOKEN_INVALID", "Bearer garbage"),
		unauthenticated("a token without Bearer", "TOKEN_INVALID", access),
		unauthenticated("two headers, both valid", "TOKEN_INVALID", "Bearer "+access, "Bearer "+access),
		unauthenticated("Basic", "TOKEN_INVALID",
			"Basic "+base64.StdEncoding.EncodeToString([]byte("portfolio:secret"))),
		unauthenticated("Basic with a valid token", "TOKEN_INVALID", "Basic "+access),
		unauthenticated("a refresh token", "TOKEN_INVALID", "Bearer "+tokens.GetRefreshToken()),
		unauthenticated("an API key", "TOKEN_INVALID", "Bearer "+key.GetKey()),
		unauthenticated("half a token", "TOKEN_INVALID", "Bearer "+access[:strings.LastIndex(access, ".")]),
		unauthenticated("a token with a part more", "TOKEN_INVALID", "Bearer "+access+".e30"),
	}
}

// wrongTokens are access tokens with one fault each, of an admin who is signed in.
func wrongTokens(t *testing.T, m *mint) []authority {
	t.Helper()
	admin := m.person(t.Context(), t, nil)
	wrong := func(name, reason string, change func(*jwt.Token, *authn.Claims)) authority {
		return unauthenticated(name, reason, "Bearer "+m.sign(t, m.claims(admin.id, admin.session), change))
	}
	at := func(d time.Duration) *jwt.NumericDate { return jwt.NewNumericDate(time.Now().Add(d)) }
	other := *m
	other.key = strangersKey(t)
	parts := strings.Split(admin.token, ".")
	edited := strings.ReplaceAll(string(decoded(t, parts[1])), admin.id.String(), uuid.NewString())
	return []authority{
		wrong("another issuer", "TOKEN_INVALID",
			func(_ *jwt.Token, c *authn.Claims) { c.Issuer = "https://a.example" }),
		wrong("no issuer", "TOKEN_INVALID", func(_ *jwt.Token, c *authn.Claims) { c.Issuer = "" }),
		wrong("another audience", "TOKEN_INVALID",
			func(_ *jwt.Token, c *authn.Claims) { c.Audience = jwt.ClaimStrings{"another"} }),
		wrong("no audience", "TOKEN_INVALID", func(_ *jwt.Token, c *authn.Claims) { c.Audience = nil }),
		wrong("a key that is not in the set", "TOKEN_INVALID",
			func(t *jwt.Token, _ *authn.Claims) { t.Header["kid"] = "unknown" }),
		wrong("no kid", "TOKEN_INVALID", func(t *jwt.Token, _ *authn.Claims) { delete(t.Header, "kid") }),
		unauthenticated("a stranger's key under our kid", "TOKEN_INVALID",
			"Bearer "+other.sign(t, m.claims(admin.id, admin.session), nil)),
		unauthenticated("a key in the token's own header", "TOKEN_INVALID",
			"Bearer "+other.sign(t, m.claims(admin.id, admin.session), func(t *jwt.Token, _ *authn.Claims) {
				t.Header["jwk"] = publicJWK(other.key)
			})),
		wrong("alg none", "TOKEN_INVALID", func(t *jwt.Token, _ *authn.Claims) {
			t.Method, t.Header["alg"] = jwt.SigningMethodNone, "none"
		}),
		wrong("HS256 with the public key", "TOKEN_INVALID", func(t *jwt.Token, _ *authn.Claims) {
			t.Method, t.Header["alg"] = jwt.SigningMethodHS256, "HS256"
		}),
		wrong("an extension that must be understood", "TOKEN_INVALID",
			func(t *jwt.Token, _ *authn.Claims) { t.Header["crit"] = []string{"b64"} }),
		unauthenticated("another user's id, not signed anew", "TOKEN_INVALID", "Bearer "+parts[0]+"."+
			base64.RawURLEncoding.EncodeToString([]byte(edited))+"."+parts[2]),
		unauthenticated("a changed signature", "TOKEN_INVALID",
			"Bearer "+admin.token[:len(admin.token)-8]+"AAAAAAAA"),
		unauthenticated("an empty signature", "TOKEN_INVALID", "Bearer "+parts[0]+"."+parts[1]+"."),
		wrong("an ID token", "TOKEN_INVALID", func(t *jwt.Token, _ *authn.Claims) { t.Header["typ"] = "JWT" }),
		wrong("no type", "TOKEN_INVALID", func(t *jwt.Token, _ *authn.Claims) { delete(t.Header, "typ") }),
		wrong("expired", "TOKEN_EXPIRED", func(_ *jwt.Token, c *authn.Claims) { c.ExpiresAt = at(-time.Minute) }),
		wrong("no expiry", "TOKEN_INVALID", func(_ *jwt.Token, c *authn.Claims) { c.ExpiresAt = nil }),
		wrong("not valid yet", "TOKEN_INVALID", func(_ *jwt.Token, c *authn.Claims) { c.NotBefore = at(time.Hour) }),
		wrong("issued in the future", "TOKEN_INVALID",
			func(_ *jwt.Token, c *authn.Claims) { c.IssuedAt = at(time.Hour) }),
		wrong("no subject", "TOKEN_INVALID", func(_ *jwt.Token, c *authn.Claims) { c.Subject = "" }),
		wrong("the nil UUID for a subject", "TOKEN_INVALID",
			func(_ *jwt.Token, c *authn.Claims) { c.Subject = uuid.Nil.String() }),
		wrong("no session", "TOKEN_INVALID", func(_ *jwt.Token, c *authn.Claims) { c.SessionID = "" }),
	}
}

// callersOfAKind are those whose tokens are valid, and not good for everything.
func callersOfAKind(m *mint) []authority {
	kind := func(name string, make func(context.Context, *testing.T) made, refused func(method) []string) authority {
		return authority{name, func(ctx context.Context, t *testing.T) ([]string, targets) {
			p := make(ctx, t)
			return []string{"Bearer " + p.token}, p.values
		}, refused}
	}
	needs := func(reason string, needs ...need) func(method) []string {
		return func(m method) []string {
			if slices.Contains(needs, m.need) {
				return []string{reason}
			}
			return nil
		}
	}
	changed := func(change func(*jwt.Token, *authn.Claims)) func(context.Context, *testing.T) made {
		return func(ctx context.Context, t *testing.T) made { return m.person(ctx, t, change) }
	}
	all := []authority{
		kind("an admin who is signed in (the control)", changed(nil), needs("")),
		kind("a sign-in of eleven minutes ago", changed(func(_ *jwt.Token, c *authn.Claims) {
			c.AuthTime = jwt.NewNumericDate(time.Now().Add(-11 * time.Minute))
		}), needs("REAUTHENTICATION_REQUIRED", recent, operator)),
		kind("a token that doesn't say when its user signed in", changed(func(_ *jwt.Token, c *authn.Claims) {
			c.AuthTime = nil
		}), needs("REAUTHENTICATION_REQUIRED", recent, operator)),
		kind("the token of an API key", func(ctx context.Context, t *testing.T) made {
			p := m.person(ctx, t, nil)
			p.token = m.withKey(t, p)
			return p
		}, needs("API_KEY_CALLER", person, recent, operator)),
		kind("the token of a service account", func(ctx context.Context, t *testing.T) made {
			return m.program(ctx, t, everyPermission()...)
		}, needs("SERVICE_CALLER", person, recent)),
		kind("a token without permissions", changed(func(_ *jwt.Token, c *authn.Claims) { c.Permissions = nil }),
			func(m method) []string {
				if m.permission != "" {
					return []string{"PERMISSION_MISSING"}
				}
				return nil
			}),
		kind("an API key without scopes", func(ctx context.Context, t *testing.T) made {
			p := m.person(ctx, t, nil)
			c := m.claims(p.id, uuid.MustParse(p.values["api_key_id"]))
			c.AMR, c.Permissions = []string{authn.MethodAPIKey}, nil
			p.token = m.sign(t, c, nil)
			return p
		}, func(m method) []string {
			switch {
			case m.permission != "":
				return []string{"PERMISSION_MISSING"}
			case m.need == person || m.need == recent:
				return []string{"API_KEY_CALLER"}
			}
			return nil
		}),
	}
	for _, permission := range everyPermission() {
		others := slices.DeleteFunc(everyPermission(), func(p string) bool { return p == permission })
		all = append(all, kind("every permission but "+permission, changed(func(_ *jwt.Token, c *authn.Claims) {
			c.Permissions = others
		}), func(m method) []string {
			switch {
			case m.permission == permission:
				return []string{"PERMISSION_MISSING"}
			case m.permission == "" || m.changes:
				return []string{notTried} // the control passes it
			case permission == "wallet:read" && m.ParentFile().Package() == "purser.portfolio.v1":
				return []string{"PERMISSION_MISSING", allowed} // what asks wallet, with the caller's token
			}
			return nil
		}))
	}
	return all
}

// reasonOf is the reason of an answered error; "" without one.
func reasonOf(err error) string {
	if e := errs.As(grpcerr.FromError(err)); err != nil && e != nil {
		return e.Reason
	}
	return ""
}

func decoded(t *testing.T, part string) []byte {
	t.Helper()
	text, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
