// Package console serves a web page that shows the suite at work: the value of the demo's portfolio or that of whoever
// has signed in, the services and what they depend on, the signing keys, the job runs and the latest traces. It is
// part of devstack only.
//
// It promises: it calls the services over gRPC as any client would, and only reads, apart from signing an account in
// and out; no token leaves this process; a browser that has signed in has the random id of its session, in a cookie;
// while a service is unavailable the page keeps showing its last data, with their time.
//
// Limits: for development, without TLS. Every user of this machine can read the page and with it the demo's
// portfolio. Browsers send the cookie to every port of the host, so a server on another port of this machine that the
// browser is sent to could use the session. It listens on loopback and refuses requests with another Host header,
// which protects it from DNS rebinding by other web pages, and forms of other pages.
package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/services/devstack/loopback"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/devstack/traces"
)

const defaultRefresh = 2 * time.Second

var (
	//go:embed assets
	assets embed.FS
	//go:embed templates
	pages embed.FS
)

// Options of a console. Addr and Endpoints are required.
type Options struct {
	// Addr is the loopback address to listen on.
	Addr      string
	Endpoints suite.Endpoints
	// Email and Password of the user whose portfolio is shown to who has not signed in; may be empty.
	Email, Password string
	// NoUser says why there is no such user.
	NoUser string
	// ExampleAccount is a CAIP-10 account for the commands that add a wallet; may be empty.
	ExampleAccount string
	// Secret of the console's service account, see EnsureServiceAccount.
	Secret string
	// Refresh is how often an open page asks for new data; 2 seconds when zero.
	Refresh time.Duration
	// Traces to show; may be nil.
	Traces *traces.Ring
	Log    *slog.Logger
}

// Console is a running web server.
type Console struct {
	listener net.Listener
	server   *http.Server
	served   chan error
	services *services
	page     *template.Template
	sections map[string][]*panel
	traces   *traces.Ring
	// demo is the portfolio for who has not signed in; may be nil.
	demo     *viewer
	signedIn *sessions
	options  Options
	log      *slog.Logger
}

// Start serves a console until Close.
func Start(ctx context.Context, o Options) (*Console, error) {
	if o.Refresh == 0 {
		o.Refresh = defaultRefresh
	}
	page, err := template.New("").Funcs(functions()).ParseFS(pages, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	s, err := dial(o)
	if err != nil {
		return nil, err
	}
	l, err := loopback.Listen(ctx, o.Addr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("console: %w", err), s.close())
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{
		listener: l, served: make(chan error, 1), services: s, page: page,
		sections: s.sections(), traces: o.Traces, options: o, signedIn: newSessions(), log: o.Log,
	}
	if o.Email != "" {
		c.demo = s.newViewer(o.Email, o.Password, nil)
	}
	c.server = &http.Server{Handler: guarded(l.Addr(), c.routes()), ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { c.served <- c.server.Serve(l) }()
	return c, nil
}

// URL of the page.
func (c *Console) URL() string { return "http://" + c.listener.Addr().String() + "/" }

// Close stops the console at once and ends the sessions of who has signed in.
func (c *Console) Close() error {
	err := c.server.Close()
	if ended := <-c.served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	c.endAll(c.signedIn.removeAll())
	return errors.Join(err, c.services.close())
}

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		c.renderPage(w, r, signInForm{}, http.StatusOK)
	})
	mux.HandleFunc("GET /panel/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if !slices.Contains(panels(), name) {
			http.NotFound(w, r)
			return
		}
		c.render(w, r, name)
	})
	mux.HandleFunc("GET /trace/{id}", c.serveTrace)
	mux.HandleFunc("GET /charts.json", c.serveCharts)
	mux.HandleFunc("GET /live", c.serveLive)
	mux.HandleFunc("POST /currency", c.chooseCurrency)
	mux.Handle("GET /currency", http.RedirectHandler("/", http.StatusSeeOther)) // the address after a refusal
	mux.HandleFunc("POST /sign-in", c.signIn)
	mux.Handle("GET /sign-in", http.RedirectHandler("/", http.StatusSeeOther)) // the address after a refusal
	mux.HandleFunc("POST /sign-out", c.signOut)
	files, _ := fs.Sub(assets, "assets") // the folder is embedded
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(files)))
	return mux
}

// panelStates loads the panels of these sections concurrently: those of all viewers and those of one, who may be nil,
// in a currency.
func (c *Console) panelStates(ctx context.Context, v *viewer, currency string, names ...string) map[string][]state {
	found := map[string][]state{}
	var all sync.WaitGroup
	for _, name := range names {
		panels := c.sections[name]
		if panels == nil && v != nil {
			panels = v.sections[currency][name]
		}
		states := make([]state, len(panels))
		found[name] = states
		for i, p := range panels {
			all.Go(func() { states[i] = p.refresh(ctx) })
		}
	}
	all.Wait()
	return found
}
