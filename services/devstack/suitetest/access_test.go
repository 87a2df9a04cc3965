package suitetest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/proto/access"
	"github.com/purserhq/purser/services/devstack/suite"
)

// Every method of every service is called with every kind of invalid token. The tokens are signed by a key that the
// suite publishes, so that each has one defect only; the control is a valid token.
func TestEveryMethodRefusesEveryWrongToken(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"auth": {"PURSER_KEYS_POLL=100ms", "PURSER_KEYS_SIGNER_LEASE=30s"}}
	})
	kid, key := publishedKey(t, s)
	sign := func(change func(*jwt.Token, *authn.Claims)) string {
		now := time.Now()
		c := authn.Claims{
			RegisteredClaims: jwt.RegisteredClaims{
				Issuer: s.Issuer(), Audience: jwt.ClaimStrings{authn.Audience}, Subject: uuid.NewString(),
				IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now),
				ExpiresAt: jwt.NewNumericDate(now.Add(time.Minute)),
			},
			SessionID:   uuid.NewString(),
			Permissions: []string{"wallet:read", "wallet:write", "wallet:delete", "portfolio:read", "portfolio:write"},
		}
		token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &c)
		token.Header["typ"], token.Header["kid"] = authn.TokenType, kid
		change(token, &c)
		var signer any = key
		switch token.Method {
		case jwt.SigningMethodHS256:
			signer = []byte(key.Public().(ed25519.PublicKey))
		case jwt.SigningMethodNone:
			signer = jwt.UnsafeAllowNoneSignatureType
		}
		text, err := token.SignedString(signer)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := sign(func(*jwt.Token, *authn.Claims) {})
	wrong := []struct{ name, token, reason string }{
		{"none", "", "TOKEN_MISSING"},
		{"garbage", "garbage", "TOKEN_INVALID"},
		{"expired", sign(func(_ *jwt.Token, c *authn.Claims) {
			c.ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Minute))
		}), "TOKEN_EXPIRED"},
		{"wrong audience", sign(func(_ *jwt.Token, c *authn.Claims) { c.Audience = jwt.ClaimStrings{"another"} }),
			"TOKEN_INVALID"},
		{"wrong issuer", sign(func(_ *jwt.Token, c *authn.Claims) { c.Issuer = "http://elsewhere.example" }),
			"TOKEN_INVALID"},
		{"wrong type", sign(func(t *jwt.Token, _ *authn.Claims) { t.Header["typ"] = "JWT" }), "TOKEN_INVALID"},
		{"alg none", sign(func(t *jwt.Token, _ *authn.Claims) {
			t.Method, t.Header["alg"] = jwt.SigningMethodNone,
				"none"
		}), "TOKEN_INVALID"},
		{"HS256 with the public key", sign(func(t *jwt.Token, _ *authn.Claims) {
			t.Method,
				t.Header["alg"] = jwt.SigningMethodHS256, "HS256"
		}), "TOKEN_INVALID"},
		{"an unknown key", sign(func(t *jwt.Token, _ *authn.Claims) { t.Header["kid"] = "unknown" }), "TOKEN_INVALID"},
		{"a changed signature", good[:len(good)-8] + "AAAAAAAA", "TOKEN_INVALID"},
		{"another user's id as subject, not signed anew",
			good[:strings.LastIndex(good, ".")] + "." + strings.Repeat("A", 86), "TOKEN_INVALID"},
	}
	methods := 0
	for _, m := range servedMethods(s) {
		full := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
		rule, ok := access.Lookup(full)
		if !ok {
			t.Errorf("%s has no access rule", full)
			continue
		}
		methods++
		for _, w := range wrong {
			err := invoke(t, s, m, w.token)
			if rule.Public {
				if c := grpcclient.WithToken(t.Context(), w.token); c == nil || isAuth(err) {
					t.Errorf("%s is public and refused the token %q: %v", full, w.name, err)
				}
				continue
			}
			wantError(t, err, codes.Unauthenticated, w.reason)
		}
		if err := invoke(t, s, m, good); isAuth(err) {
			t.Errorf("%s refused a good token: %v", full, err)
		}
		if err := invoke(t, s, m, sign(func(_ *jwt.Token, c *authn.Claims) { c.AMR = []string{"key"} })); err == nil &&
			rule.Authenticated && !allowedForAPIKeys()[full] {
			t.Errorf("%s is for persons alone, and took the token of an API key", full)
		}
		if rule.Permission != "" {
			none := sign(func(_ *jwt.Token, c *authn.Claims) { c.Permissions = nil })
			wantError(t, invoke(t, s, m, none), codes.PermissionDenied, "PERMISSION_MISSING")
		}
	}
	if methods < 20 {
		t.Errorf("only %d methods were tried", methods)
	}
}

// allowedForAPIKeys are the methods for all authenticated callers that also accept a token of an API key: those on
// the token itself.
func allowedForAPIKeys() map[string]bool {
	return map[string]bool{
		"/purser.auth.v1.AccountService/GetMe":      true,
		"/purser.auth.v1.SessionService/Logout":     true,
		"/purser.auth.v1.TokenService/Introspect":   true,
		"/purser.wallet.v1.TokenService/ListChains": true,
	}
}

func isAuth(err error) bool {
	s := fmt.Sprint(err)
	return strings.Contains(s, "TOKEN_") || strings.Contains(s, "PERMISSION_")
}

// servedMethod is a method and the address of a service that serves it.
type servedMethod struct {
	protoreflect.MethodDescriptor
	addr string
}

// servedMethods are all methods of the suite's contracts. Those of JobService and StatusService are listed once
// for each service.
func servedMethods(s *suite.Suite) []servedMethod {
	every := []string{s.Endpoints.Auth, s.Endpoints.Wallet, s.Endpoints.Portfolio}
	addresses := map[protoreflect.FullName][]string{
		"purser.auth.v1": every[:1], "purser.wallet.v1": every[1:2], "purser.portfolio.v1": every[2:],
		"purser.jobs.v1": every, "purser.status.v1": every,
	}
	var all []servedMethod
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		addrs, known := addresses[f.Package()]
		if !known && strings.HasPrefix(string(f.Package()), "purser.") {
			addrs = []string{"127.0.0.1:1"} // so that a contract that is missing above fails the tests
		}
		for i := range f.Services().Len() {
			methods := f.Services().Get(i).Methods()
			for j := range methods.Len() {
				for _, addr := range addrs {
					all = append(all, servedMethod{methods.Get(j), addr})
				}
			}
		}
		return true
	})
	return all
}

// invoke calls a method with an empty request: the token is verified before the request.
func invoke(t *testing.T, s *suite.Suite, m servedMethod, token string) error {
	t.Helper()
	return invokeWith(t, s, m, token, dynamicpb.NewMessage(m.Input()))
}

func invokeWith(t *testing.T, s *suite.Suite, m servedMethod, token string,
	in *dynamicpb.Message) error {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+m.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx := t.Context()
	if token != "" {
		ctx = grpcclient.WithToken(ctx, token)
	}
	full, out := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingServer() {
		return conn.Invoke(ctx, full, in, out)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err != nil {
		return err
	}
	if err := errors.Join(stream.SendMsg(in), stream.CloseSend()); err != nil {
		return err
	}
	return stream.RecvMsg(out)
}

// publishedKey adds a key of the test to the suite's key set.
func publishedKey(t *testing.T, s *suite.Suite) (kid string, private ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	kid = "key-of-a-test-" + rand.Text()
	conn, err := pgx.Connect(t.Context(), s.Postgres.URL("purser_auth"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), `
		INSERT INTO signing_keys (kid, issuer, algorithm, state, public_key, created_at, published_at)
		VALUES ($1, $2, 'EdDSA', 'STANDBY', $3, now(), now())`, kid, s.Issuer(), []byte(public))
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 10*time.Second, func() bool {
		resp, err := http.Get("http://" + s.Endpoints.AuthHTTP + "/.well-known/jwks.json")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(body), kid)
	})
	return kid, private
}
