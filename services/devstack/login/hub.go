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

// hubPath is what the stand-in for GitHub is under.
const hubPath = "/github"

// hub is as much of GitHub as signing in asks of it.
type hub struct {
	redirectURIs []string

	mu     sync.Mutex
	codes  map[string]grant
	tokens map[string]User
}

// grant is what a code stands for.
type grant struct {
	user                   User
	redirectURI, challenge string
}

func newHub(redirectURIs []string) *hub {
	return &hub{redirectURIs: redirectURIs, codes: map[string]grant{}, tokens: map[string]User{}}
}

func (h *hub) register(mux *http.ServeMux, show func(http.ResponseWriter, string, url.Values)) {
	mux.HandleFunc("GET "+hubPath+"/login/oauth/authorize", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		user, ok := userBy(func(u User) bool { return u.Name == q.Get("user") })
		switch {
		case q.Get("client_id") != ClientID || !slices.Contains(h.redirectURIs, q.Get("redirect_uri")) ||
			q.Get("code_challenge_method") != "S256":
			http.Error(w, "unknown client, or a redirect URI that isn't its own", http.StatusBadRequest)
		case !ok:
			show(w, "login", q)
		default:
			back := url.Values{"state": {q.Get("state")}, "code": {h.grant(user, q)}}
			http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
		}
	})
	mux.HandleFunc("POST "+hubPath+"/login/oauth/access_token", h.token)
	mux.HandleFunc("GET "+hubPath+"/api/user", h.ask(func(u User) any {
		return map[string]any{"id": u.number, "login": u.Name, "name": u.Name}
	}))
	mux.HandleFunc("GET "+hubPath+"/api/user/emails", h.ask(func(u User) any {
		return []map[string]any{{"email": u.Email, "primary": true, "verified": u.Verified}}
	}))
}

func (h *hub) grant(user User, q url.Values) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	code := rand.Text()
	h.codes[code] = grant{user, q.Get("redirect_uri"), q.Get("code_challenge")}
	return code
}

func (h *hub) token(w http.ResponseWriter, r *http.Request) {
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

// ask answers who has a token.
func (h *hub) ask(about func(User) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		user, ok := h.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		h.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		write(w, about(user))
	}
}

func write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader went away: nothing to do
}
