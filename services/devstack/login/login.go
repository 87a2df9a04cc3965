// Package login is a local identity provider: OpenID Connect, and the part of GitHub's API that a
// sign-in needs. Its login page asks for a user and no password.
//
// Limits: for development; its state is in memory only.
package login

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/purserhq/purser/services/devstack/loopback"
)

// User is an account of the provider.
type User struct {
	Name, Subject, Email string
	Verified             bool
	githubID             int
}

// Users returns all accounts.
func Users() []User {
	return []User{
		{"demo", "local-demo", "demo@example.com", true, 1},
		{"ada", "local-ada", "ada@example.com", true, 2},
		{"unverified", "local-unverified", "unverified@example.com", false, 3},
	}
}

func userBy(match func(User) bool) (User, bool) {
	for _, u := range Users() {
		if match(u) {
			return u, true
		}
	}
	return User{}, false
}

// ClientID and ClientSecret are those of the provider's only app. They are public.
const (
	ClientID     = "purser"
	ClientSecret = "public-and-worthless"
)

// Options of a provider.
type Options struct {
	// Addr is the loopback address to listen on; port 0 lets the system choose.
	Addr string
	// RedirectURIs are allowed in addition to AppURL.
	RedirectURIs []string
}

// Provider is a running identity provider.
type Provider struct {
	listener net.Listener
	server   *http.Server
	served   chan error
	store    *store
	github   *github
	openID   *op.Provider
	pages    *template.Template
}

// Start serves a provider until Close.
func Start(ctx context.Context, o Options) (*Provider, error) {
	l, err := loopback.Listen(ctx, o.Addr)
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	p := &Provider{listener: l, served: make(chan error, 1), pages: template.Must(template.New("").Parse(pages))}
	if p.store, err = newStore(append(o.RedirectURIs, p.AppURL())); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.github = newGitHub(append(o.RedirectURIs, p.AppURL()))
	p.openID, err = op.NewProvider(&op.Config{CodeMethodS256: true, AuthMethodPost: true}, p.store,
		op.StaticIssuer(p.URL()), op.WithAllowInsecure())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("login: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", p.login)
	mux.HandleFunc("GET /app", p.app)
	p.github.register(mux, p.show)
	mux.Handle("/", p.openID)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { p.served <- p.server.Serve(l) }()
	return p, nil
}

// URL is the issuer, such as http://127.0.0.1:9000.
func (p *Provider) URL() string { return "http://" + p.listener.Addr().String() }

// AppURL is the page of an example app: it shows the parameters that it was sent.
func (p *Provider) AppURL() string { return p.URL() + "/app" }

// Settings returns the value of PURSER_OAUTH_PROVIDERS for the providers "local" and "local-github".
func (p *Provider) Settings() string {
	return fmt.Sprintf(`[{"name":"local","kind":"oidc","issuer":%q,`+
		`"client_id":%q,"client_secret":%q,"allow_private":true},`+
		`{"name":"local-github","kind":"github","base_url":%q,"api_url":%q,`+
		`"client_id":%q,"client_secret":%q,"allow_private":true}]`,
		p.URL(), ClientID, ClientSecret, p.URL()+githubPath, p.URL()+githubPath+"/api", ClientID, ClientSecret)
}

// Close stops the provider at once.
func (p *Provider) Close() error {
	err := p.server.Close()
	if ended := <-p.served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// login shows the accounts to choose from, and continues the request once one is chosen.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	id, name := r.FormValue("id"), r.FormValue("user")
	user, ok := userBy(func(u User) bool { return u.Name == name })
	if !ok {
		p.show(w, "login", r.URL.Query())
		return
	}
	if !p.store.approve(id, user) {
		http.Error(w, "unknown request", http.StatusNotFound)
		return
	}
	http.Redirect(w, r, op.AuthCallbackURL(p.openID)(op.ContextWithIssuer(r.Context(), p.URL()), id), http.StatusFound)
}

func (p *Provider) app(w http.ResponseWriter, r *http.Request) { p.show(w, "app", r.URL.Query()) }

// show renders a page with the parameters of the request, and a link for every user. The template is given whole
// links: as the value of an attribute a link keeps its & and =, but inserted after a "?" they would be escaped.
func (p *Provider) show(w http.ResponseWriter, page string, query url.Values) {
	type choice struct{ Text, Link string }
	var choices []choice
	for _, u := range Users() {
		q := url.Values{}
		for name, v := range query {
			q[name] = v
		}
		q.Set("user", u.Name)
		text := u.Name + " (" + u.Email + ")"
		if !u.Verified {
			text += ", address not verified"
		}
		choices = append(choices, choice{text, "?" + q.Encode()})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// It fails only if the client has gone.
	_ = p.pages.ExecuteTemplate(w, page, map[string]any{"Choices": choices, "Query": query})
}

const pages = `{{define "login"}}<!doctype html><title>Local provider</title><h1>Who are you?</h1>
<ul>{{range .Choices}}<li><a href="{{.Link}}">{{.Text}}</a>{{end}}</ul>
{{end}}{{define "app"}}<!doctype html><title>Example app</title><h1>Parameters sent to the app</h1>
<dl>{{range $name, $v := .Query}}<dt>{{$name}}<dd><code>{{index $v 0}}</code>{{end}}</dl>
{{end}}`
