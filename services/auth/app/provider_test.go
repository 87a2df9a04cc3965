package app_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const (
	clientID     = "purser-test"
	clientSecret = "only for tests, not secret"
	redirectURI  = "https://app.example/callback"
	returnTo     = "https://app.example/done?lang=en"
)

// provider is an OpenID Connect provider that can be made to lie.
type provider struct {
	*httptest.Server
	key *ecdsa.PrivateKey

	mu     sync.Mutex
	codes  map[string]url.Values // the authorization request of each code
	claims map[string]any        // of whoever signs in
	// forge makes the ID token instead, from the claims that a true one has.
	forge func(claims jwt.MapClaims) string
	// intercept answers a path instead, when it is there.
	intercept map[string]http.HandlerFunc
	metadata  map[string]any // added to the discovery document
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key, codes: map[string]url.Values{}, intercept: map[string]http.HandlerFunc{},
		metadata: map[string]any{}}
	p.signedIn("ada", "ada@example.com", true)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		document := map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token",
			"jwks_uri":                              p.URL + "/keys",
			"userinfo_endpoint":                     p.URL + "/userinfo",
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
		}
		maps.Copy(document, p.metadata)
		answer(w, document)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256",
			Use: "sig"}}})
	})
	mux.HandleFunc("/token", p.token)
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, _ *http.Request) { answer(w, p.who()) })
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		instead := p.intercept[r.URL.Path]
		p.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (p *provider) signedIn(subject, email string, verified bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = map[string]any{"sub": subject, "email": email, "email_verified": verified, "name": "Ada"}
}

func (p *provider) who() map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.claims)
}

func (p *provider) set(path string, h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.intercept[path] = h
}

// approve is the user's consent: it returns the state and a code.
func (p *provider) approve(t *testing.T, authorizationURL string) (state, code string) {
	t.Helper()
	u, err := url.Parse(authorizationURL)
	if err != nil || !strings.HasPrefix(authorizationURL, p.URL+"/authorize?") {
		t.Fatal(authorizationURL, err)
	}
	q := u.Query()
	if q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || q.Get("response_type") != "code" ||
		q.Get("client_id") != clientID {
		t.Fatalf("asked with %v", q)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	code = rand.Text()
	p.codes[code] = q
	return q.Get("state"), code
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, ok := p.codes[r.Form.Get("code")]
	delete(p.codes, r.Form.Get("code"))
	id, secret, basic := r.BasicAuth()
	if basic {
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.Form.Get("client_id"), r.Form.Get("client_secret")
	}
	verifier := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
	if !ok || id != clientID || secret != clientSecret || asked.Get("redirect_uri") != r.Form.Get("redirect_uri") ||
		asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(verifier[:]) {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, map[string]string{"error": "invalid_grant"})
		return
	}
	now := time.Now()
	c := jwt.MapClaims{
		"iss": p.URL, "aud": clientID, "nonce": asked.Get("nonce"),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
	}
	maps.Copy(c, p.claims)
	forge := p.forge
	if forge == nil {
		forge = func(c jwt.MapClaims) string { return p.sign(jwt.SigningMethodES256, p.key, c) }
	}
	answer(w, map[string]any{"access_token": "at", "token_type": "Bearer", "id_token": forge(c)})
}

func (p *provider) sign(m jwt.SigningMethod, key any, c jwt.MapClaims) string {
	token := jwt.NewWithClaims(m, c)
	token.Header["kid"] = "k"
	text, err := token.SignedString(key)
	if err != nil {
		return err.Error()
	}
	return text
}

// signText signs a header and claims as they are written.
func (p *provider) signText(header, claims string) string {
	input := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(claims))
	sig, err := jwt.SigningMethodES256.Sign(input, p.key)
	if err != nil {
		return err.Error()
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// claimsText is JSON.
func claimsText(c jwt.MapClaims) string {
	text, _ := json.Marshal(c)
	return string(text)
}

// settings that make the service sign in with these providers.
func (p *provider) settings(more ...map[string]any) []string {
	list := append([]map[string]any{{
		"name": "corp", "kind": "oidc", "issuer": p.URL, "client_id": clientID, "client_secret": clientSecret,
		"allow_private": true,
	}}, more...)
	text, _ := json.Marshal(list)
	return []string{
		"PURSER_OAUTH_PROVIDERS=" + string(text), "PURSER_OAUTH_REDIRECT_URIS=" + redirectURI,
		"PURSER_OAUTH_RETURN_TO=" + returnTo,
		"PURSER_ATTEMPTS_PER_ADDRESS=100000",
	}
}

// redisOf is the URL of a Redis of the test's own.
func redisOf(t *testing.T) string { return testkit.Redis(t).URL() }

// withProvider is a service that signs in with a provider.
func withProvider(t *testing.T, more ...string) (service, *provider) {
	t.Helper()
	p := newProvider(t)
	return start(t, append(append(p.settings(), "PURSER_REDIS_URL="+redisOf(t)), more...)...), p
}

// begin starts a sign-in, approved already, and returns what FinishOAuth takes.
func (s service) begin(t *testing.T, p *provider) *authv1.FinishOAuthRequest {
	t.Helper()
	started, err := s.sessions.StartOAuth(t.Context(),
		&authv1.StartOAuthRequest{Provider: "corp", RedirectUri: redirectURI})
	if err != nil {
		t.Fatal(err)
	}
	state, code := p.approve(t, started.GetAuthorizationUrl())
	if state != started.GetState() {
		t.Fatal("the state is another")
	}
	return &authv1.FinishOAuthRequest{State: state, Code: code, Secret: started.GetSecret()}
}

// signIn signs in whoever the provider says.
func (s service) signIn(t *testing.T, p *provider) *authv1.Tokens {
	t.Helper()
	resp, err := s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
	if err != nil || resp.GetTokens() == nil {
		t.Fatal(resp, err)
	}
	return resp.GetTokens()
}
