package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestANewUserSignsInWithAProviderAndIsKnownTheNextTime(t *testing.T) {
	s, p := withProvider(t)
	first := s.signIn(t, p)
	ada := grpcclient.WithToken(t.Context(), first.GetAccessToken())
	me, err := s.accounts.GetMe(ada, &authv1.GetMeRequest{})
	if err != nil || me.GetUser().GetEmail() != "ada@example.com" ||
		me.GetUser().GetRoles()[0] != "individual_investor" {
		t.Fatal(me, err)
	}
	p.signedIn("ada", "ada@elsewhere.example", false) // changed there, and not verified
	again, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), s.signIn(t, p).GetAccessToken()),
		&authv1.GetMeRequest{})
	if err != nil || again.GetUser().GetId() != me.GetUser().GetId() ||
		again.GetUser().GetEmail() != "ada@example.com" {
		t.Error("the subject is not what counts", again, err)
	}
	list, err := s.identities.ListIdentities(ada, &authv1.ListIdentitiesRequest{})
	if err != nil || len(list.GetIdentities()) != 1 {
		t.Fatal(list, err)
	}
	i := list.GetIdentities()[0]
	if i.GetProvider() != "corp" || i.GetSubject() != "ada" || i.GetLabel() != "ada@elsewhere.example" ||
		i.GetLastUseTime() == nil {
		t.Error(i)
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(first.GetAccessToken(), claims); err != nil ||
		claims["amr"].([]any)[0] != "oauth" {
		t.Error(claims, err)
	}
	_, err = s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: password})
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS") // there is no password
}

func TestALyingProviderSignsNobodyIn(t *testing.T) {
	s, p := withProvider(t)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	with := func(name string, v any) func(jwt.MapClaims) string {
		return func(c jwt.MapClaims) string {
			c[name] = v
			return p.sign(jwt.SigningMethodES256, p.key, c)
		}
	}
	for name, forge := range map[string]func(jwt.MapClaims) string{
		"another issuer":              with("iss", "https://elsewhere.example"),
		"another audience":            with("aud", "another app"),
		"no audience":                 with("aud", []string{}),
		"another nonce":               with("nonce", "another"),
		"no nonce":                    with("nonce", nil),
		"issued to another party":     with("azp", "another app"),
		"two audiences and no party":  with("aud", []string{clientID, "another app"}),
		"expired":                     with("exp", time.Now().Add(-time.Minute).Unix()),
		"of the future":               with("iat", time.Now().Add(time.Hour).Unix()),
		"no subject":                  with("sub", ""),
		"a subject with a NUL byte":   with("sub", "ada\x00"),
		"a subject of a kilobyte":     with("sub", strings.Repeat("a", 1024)),
		"another access token's hash": with("at_hash", "AAAA"),
		"a signature of another's key": func(
			c jwt.MapClaims) string {
			return p.sign(jwt.SigningMethodES256, stranger, c)
		},
		"alg none": func(c jwt.MapClaims) string {
			return p.sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c)
		},
		"HS256 with the client secret": func(
			c jwt.MapClaims) string {
			return p.sign(jwt.SigningMethodHS256, []byte(clientSecret), c)
		},
		"HS256 with the public key": func(
			c jwt.MapClaims) string {
			return p.sign(jwt.SigningMethodHS256, public, c)
		},
		"HS256 with the public key, in DER": func(
			c jwt.MapClaims) string {
			return p.sign(jwt.SigningMethodHS256, der, c)
		},
		"expired for longer than the leeway": with("exp", time.Now().Add(-61*time.Second).Unix()),
		"exp in quotes":                      with("exp", strconv.FormatInt(time.Now().Add(time.Minute).Unix(), 10)),
		"iat in quotes":                      with("iat", strconv.FormatInt(time.Now().Unix(), 10)),
		"Sub beside sub":                     with("Sub", "eve"),
		"EMAIL beside email":                 with("EMAIL", "eve@example.com"),
		"sub twice": func(c jwt.MapClaims) string {
			return p.signText(`{"alg":"ES256","kid":"k"}`, `{"sub":"eve",`+claimsText(c)[1:])
		},
		"kid twice": func(c jwt.MapClaims) string {
			return p.signText(`{"alg":"ES256","kid":"other","kid":"k"}`, claimsText(c))
		},
		"b64 without crit": func(c jwt.MapClaims) string {
			return p.signText(`{"alg":"ES256","kid":"k","b64":true}`, claimsText(c))
		},
		"b64 with crit": func(c jwt.MapClaims) string {
			return p.signText(`{"alg":"ES256","kid":"k","b64":true,"crit":["b64"]}`, claimsText(c))
		},
		"an unknown crit": func(c jwt.MapClaims) string {
			return p.signText(`{"alg":"ES256","kid":"k","crit":["x"],"x":1}`, claimsText(c))
		},
		"no token": func(jwt.MapClaims) string { return "" },
		"garbage":  func(jwt.MapClaims) string { return "garbage" },
	} {
		t.Run(name, func(t *testing.T) {
			p.forge = forge
			asked := s.begin(t, p)
			_, err := s.sessions.FinishOAuth(t.Context(), asked)
			e := errs.As(err)
			if e == nil || e.Kind != errs.KindUnauthenticated ||
				e.Reason != "PROVIDER_ANSWER_INVALID" && e.Reason != "IDENTITY_INVALID" {
				t.Fatal(err)
			}
			_, err = s.sessions.FinishOAuth(t.Context(), asked)
			want(t, err, errs.KindUnauthenticated, "OAUTH_STATE_INVALID")
		})
	}
	var users int
	if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM users").Scan(&users); err != nil ||
		users != 0 {
		t.Error(users, "accounts were made", err)
	}
	// The controls.
	p.forge = with("azp", clientID)
	s.signIn(t, p)
	p.forge = func(c jwt.MapClaims) string { return p.signText(`{"alg":"ES256","kid":"k"}`, claimsText(c)) }
	s.signIn(t, p)
	p.forge = func(c jwt.MapClaims) string { // by a clock that is behind, or ahead
		c["iat"], c["exp"] = time.Now().Add(-90*time.Second).Unix(), time.Now().Add(-30*time.Second).Unix()
		return p.sign(jwt.SigningMethodES256, p.key, c)
	}
	s.signIn(t, p)
	p.forge = with("iat", time.Now().Add(30*time.Second).Unix())
	s.signIn(t, p)
}

func TestASignInIsFinishedOnceAndByTheClientThatStartedIt(t *testing.T) {
	s, p := withProvider(t)
	mine, other := s.begin(t, p), s.begin(t, p)
	for name, change := range map[string]func(*authv1.FinishOAuthRequest){
		"another's secret":      func(r *authv1.FinishOAuthRequest) { r.Secret = other.GetSecret() },
		"a made-up state":       func(r *authv1.FinishOAuthRequest) { r.State = "made-up" },
		"the secret as a state": func(r *authv1.FinishOAuthRequest) { r.State = r.GetSecret() },
	} {
		t.Run(name, func(t *testing.T) {
			r := s.begin(t, p)
			change(r)
			_, err := s.sessions.FinishOAuth(t.Context(), r)
			want(t, err, errs.KindUnauthenticated, "OAUTH_STATE_INVALID")
		})
	}
	// A code that another's sign-in was given doesn't fit this one's verifier.
	swapped := s.begin(t, p)
	swapped.Code = mine.GetCode()
	_, err := s.sessions.FinishOAuth(t.Context(), swapped)
	want(t, err, errs.KindUnauthenticated, "PROVIDER_REFUSED")

	asked := s.begin(t, p)
	var finished atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := s.sessions.FinishOAuth(t.Context(), asked); err == nil {
				finished.Add(1)
			} else if e := errs.As(err); e == nil || e.Reason != "OAUTH_STATE_INVALID" {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if finished.Load() != 1 {
		t.Errorf("%d of 8 finished", finished.Load())
	}
	_, err = s.sessions.StartOAuth(t.Context(),
		&authv1.StartOAuthRequest{Provider: "nobody", RedirectUri: redirectURI})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	for _, uri := range []string{"https://app.example/callback/", "https://app.example/callback?x=1",
		"https://app.example.evil.example/callback", "http://app.example/callback", returnTo} {
		_, err = s.sessions.StartOAuth(t.Context(), &authv1.StartOAuthRequest{Provider: "corp", RedirectUri: uri})
		want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	}
}

func TestAStatedIssuerMustBeTheProviders(t *testing.T) {
	s, p := withProvider(t)
	asked := s.begin(t, p)
	asked.Iss = "https://elsewhere.example"
	_, err := s.sessions.FinishOAuth(t.Context(), asked)
	want(t, err, errs.KindUnauthenticated, "PROVIDER_ANSWER_INVALID")
	asked = s.begin(t, p)
	asked.Iss = p.URL
	if _, err := s.sessions.FinishOAuth(t.Context(), asked); err != nil {
		t.Fatal(err)
	}

	p = newProvider(t) // which says that it always names itself
	p.metadata["authorization_response_iss_parameter_supported"] = true
	s = start(t, append(p.settings(), "PURSER_REDIS_URL="+redisOf(t))...)
	_, err = s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
	want(t, err, errs.KindUnauthenticated, "PROVIDER_ANSWER_INVALID")
}

func TestWhileAProviderIsUnavailableASignInIsNotUsedUp(t *testing.T) {
	s, p := withProvider(t)
	asked := s.begin(t, p)
	for path, broken := range map[string]http.HandlerFunc{
		"/token": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
	} {
		p.set(path, broken)
		_, err := s.sessions.FinishOAuth(t.Context(), asked)
		if e := want(t, err, errs.KindUnavailable, "PROVIDER_UNAVAILABLE"); e.RetryAfter <= 0 {
			t.Error(e)
		}
		p.set(path, nil)
	}
	if _, err := s.sessions.FinishOAuth(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	p.Close()
	_, err := s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
	want(t, err, errs.KindUnavailable, "PROVIDER_UNAVAILABLE")
}

func TestWithoutRedisNobodySignsInWithAProvider(t *testing.T) {
	p := newProvider(t)
	s := start(t, p.settings()...) // on a Redis that isn't there
	_, err := s.sessions.StartOAuth(t.Context(), &authv1.StartOAuthRequest{Provider: "corp", RedirectUri: redirectURI})
	want(t, err, errs.KindUnavailable, "SIGN_IN_UNAVAILABLE")
	_, err = s.sessions.FinishOAuth(t.Context(), &authv1.FinishOAuthRequest{State: "x", Code: "x", Secret: "x"})
	want(t, err, errs.KindUnavailable, "SIGN_IN_UNAVAILABLE")
	_, err = s.sessions.ExchangeLoginCode(t.Context(), &authv1.ExchangeLoginCodeRequest{Code: "x"})
	want(t, err, errs.KindUnavailable, "SIGN_IN_UNAVAILABLE")
}
