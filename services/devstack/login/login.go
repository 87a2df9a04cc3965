// Package login is an identity provider on this machine: a real one of OpenID
// Connect, and as much of GitHub as signing in asks of it. Its login page asks
// for no password, only for whom to be.
//
// Limits: for development; what it knows is gone when it ends.
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
)

// User of the provider.
type User struct {
	Name, Subject, Email string
	Verified             bool
	number               int // GitHub's
}

// Users are everybody that the provider knows.
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

// ClientID and ClientSecret of the one app that the provider knows. Everybody
// knows them, too.
const (
	ClientID     = "purser"
	ClientSecret = "public-and-worthless"
)

// Options of a provider.
type Options struct {
	// Addr is host:port to listen on. The host must be a loopback address; port
	// 0 takes any free one.
	Addr string
	// RedirectURIs that it sends browsers back to, beside AppURL.
	RedirectURIs []string
}

// Provider is a running one.
type Provider struct {
	listener net.Listener
	server   *http.Server
	served   chan error
	store    *store
	hub      *hub
	openID   *op.Provider
	pages    *template.Template
}

// Start serves a provider until Close.
func Start(ctx context.Context, o Options) (*Provider, error) {
	l, err := listen(ctx, o.Addr)
	if err != nil {
		return nil, err
	}
	p := &Provider{listener: l, served: make(chan error, 1), pages: template.Must(template.New("").Parse(pages))}
	if p.store, err = newStore(append(o.RedirectURIs, p.AppURL())); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.hub = newHub(append(o.RedirectURIs, p.AppURL()))
	p.openID, err = op.NewProvider(&op.Config{CodeMethodS256: true, AuthMethodPost: true}, p.store,
		op.StaticIssuer(p.URL()), op.WithAllowInsecure())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("login: %w", err), l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", p.login)
	mux.HandleFunc("GET /app", p.app)
	p.hub.register(mux, p.show)
	mux.Handle("/", p.openID)
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { p.served <- p.server.Serve(l) }()
	return p, nil
}

func listen(ctx context.Context, addr string) (net.Listener, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil || !tcp.IP.IsLoopback() {
		return nil, fmt.Errorf("login: %q is not a loopback address", addr)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", tcp.String())
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	return l, nil
}

// URL is the issuer, such as http://127.0.0.1:9000.
func (p *Provider) URL() string { return "http://" + p.listener.Addr().String() }

// AppURL is a page that stands for an app: it shows what it was sent.
func (p *Provider) AppURL() string { return p.URL() + "/app" }

// Settings is the providers as PURSER_OAUTH_PROVIDERS has them: "local" and
// "local-github".
func (p *Provider) Settings() string {
	return fmt.Sprintf(`[{"name":"local","kind":"oidc","issuer":%q,"client_id":%q,"client_secret":%q,"allow_private":true},`+
		`{"name":"local-github","kind":"github","base_url":%q,"api_url":%q,"client_id":%q,"client_secret":%q,"allow_private":true}]`,
		p.URL(), ClientID, ClientSecret, p.URL()+hubPath, p.URL()+hubPath+"/api", ClientID, ClientSecret)
}

// Close stops the provider at once.
func (p *Provider) Close() error {
	err := p.server.Close()
	if ended := <-p.served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// login asks whom to be, and goes on as soon as that is said.
func (p *Provider) login(w http.ResponseWriter, r *http.Request) {
	id, name := r.FormValue("id"), r.FormValue("user")
	user, ok := userBy(func(u User) bool { return u.Name == name })
	if !ok {
		p.show(w, "login", r.URL.Query())
		return
	}
	if !p.store.approve(id, user) {
		http.Error(w, "there is no such request", http.StatusNotFound)
		return
	}
	http.Redirect(w, r, op.AuthCallbackURL(p.openID)(op.ContextWithIssuer(r.Context(), p.URL()), id), http.StatusFound)
}

func (p *Provider) app(w http.ResponseWriter, r *http.Request) { p.show(w, "app", r.URL.Query()) }

// show renders a page with what it was asked with, and links for every user.
func (p *Provider) show(w http.ResponseWriter, page string, query url.Values) {
	type choice struct{ Text, Query string }
	var choices []choice
	for _, u := range Users() {
		q := url.Values{}
		for name, v := range query {
			q[name] = v
		}
		q.Set("user", u.Name)
		text := u.Name + " (" + u.Email + ")"
		if !u.Verified {
			text += ", whose address is not verified"
		}
		choices = append(choices, choice{text, q.Encode()})
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// the reader went away: nothing to do
	_ = p.pages.ExecuteTemplate(w, page, map[string]any{"Choices": choices, "Query": query})
}

const pages = `{{define "login"}}<!doctype html><title>Local provider</title><h1>Who are you?</h1>
<ul>{{range .Choices}}<li><a href="?{{.Query}}">{{.Text}}</a>{{end}}</ul>
{{end}}{{define "app"}}<!doctype html><title>An app</title><h1>An app was sent this</h1>
<dl>{{range $name, $v := .Query}}<dt>{{$name}}<dd><code>{{index $v 0}}</code>{{end}}</dl>
{{end}}`
