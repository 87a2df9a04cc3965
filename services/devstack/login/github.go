package login

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// githubPath is the path of the GitHub stand-in.
const githubPath = "/github"

// github is the part of GitHub that a sign-in needs: OAuth, the user and their e-mail addresses.
type github struct {
	redirectURIs []string

	mu     sync.Mutex
	codes  map[string]grant
	tokens map[string]User
}

// grant is what an authorization code was issued for.
type grant struct {
	user                   User
	redirectURI, challenge string
}

func newGitHub(redirectURIs []string) *github {
	return &github{redirectURIs: redirectURIs, codes: map[string]grant{}, tokens: map[string]User{}}
}

func (h *github) register(mux *http.ServeMux, show func(http.ResponseWriter, string, url.Values)) {
	mux.HandleFunc("GET "+githubPath+"/login/oauth/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		user, ok := userBy(func(u User) bool { return u.Name == q.Get("user") })
		switch {
		case q.Get("client_id") != ClientID || !slices.Contains(h.redirectURIs, q.Get("redirect_uri")) ||
			q.Get("code_challenge_method") != "S256":
			http.Error(w, "unknown client or redirect URI", http.StatusBadRequest)
		case !ok:
			show(w, "login", q)
		default:
			back := url.Values{"state": {q.Get("state")}, "code": {h.grant(user, q)}}
			http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
		}
	})
	mux.HandleFunc("POST "+githubPath+"/login/oauth/access_token", h.token)
	mux.HandleFunc("GET "+githubPath+"/api/user", h.withUser(func(u User) any {
		return map[string]any{"id": u.githubID, "login": u.Name, "name": u.Name}
	}))
	mux.HandleFunc("GET "+githubPath+"/api/user/emails", h.withUser(func(u User) any {
		return []map[string]any{{"email": u.Email, "primary": true, "verified": u.Verified}}
	}))
}

func (h *github) grant(user User, q url.Values) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	code := rand.Text()
	h.codes[code] = grant{user, q.Get("redirect_uri"), q.Get("code_challenge")}
	return code
}

func (h *github) token(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	code := r.FormValue("code")
	g, ok := h.codes[code]
	delete(h.codes, code)
	verifier := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || r.FormValue("client_id") != ClientID || r.FormValue("client_secret") != ClientSecret ||
		r.FormValue("redirect_uri") != g.redirectURI ||
		base64.RawURLEncoding.EncodeToString(verifier[:]) != g.challenge {
		write(w, map[string]string{"error": "bad_verification_code"}) // with 200, as GitHub does
		return
	}
	token := rand.Text()
	h.tokens[token] = g.user
	write(w, map[string]string{"access_token": token, "token_type": "bearer"})
}

// withUser serves a value about the user of the access token.
func (h *github) withUser(value func(User) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		user, ok := h.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		h.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		write(w, value(user))
	}
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // fails only if the client has gone
}
