// Package console serves a web page that shows the suite at work: the value of the demo user's
// portfolio, the signing keys, the job runs and the latest traces. It is part of devstack only.
//
// It promises: it calls the services over gRPC as any client would and only reads; no token leaves
// this process; while a service is unavailable the page keeps showing its last data, with their time.
//
// Limits: for development. Every user of this machine can read the page. It listens on loopback and
// refuses requests with another Host header, which protects it from DNS rebinding by other web pages.
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
	// Email and Password of the user whose portfolio is shown.
	Email, Password string
	// NoUser is shown in place of a portfolio when Email is empty.
	NoUser string
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
	noUser   string
	refresh  time.Duration
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
		sections: s.sections(), traces: o.Traces, noUser: o.NoUser,
		refresh: o.Refresh, log: o.Log,
	}
	c.server = &http.Server{Handler: localReadsOnly(l.Addr(), c.routes()), ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes: 16 << 10}
	go func() { c.served <- c.server.Serve(l) }()
	return c, nil
}

// URL of the page.
func (c *Console) URL() string { return "http://" + c.listener.Addr().String() + "/" }

// Close stops the console at once.
func (c *Console) Close() error {
	err := c.server.Close()
	if ended := <-c.served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return errors.Join(err, c.services.close())
}

func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { c.render(w, r, "page") })
	mux.HandleFunc("GET /panel/{name}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		if c.sections[name] == nil && name != "traces" && name != "days" {
			http.NotFound(w, r)
			return
		}
		c.render(w, r, name)
	})
	mux.HandleFunc("GET /value.json", c.serveChart)
	files, _ := fs.Sub(assets, "assets") // the folder is embedded
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(files)))
	return mux
}

// localReadsOnly refuses requests that write and requests whose Host header is not one of this
// server's own addresses, such as a name of another web page that resolves to it (DNS rebinding).
func localReadsOnly(self net.Addr, next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(self.String())
	own := map[string]bool{self.String(): true, net.JoinHostPort("127.0.0.1", port): true,
		net.JoinHostPort("localhost", port): true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors "+
			"'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "private, no-cache")
		switch {
		case !own[r.Host]:
			http.Error(w, "the console answers at http://"+self.String()+"/", http.StatusMisdirectedRequest)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			http.Error(w, "the console only reads", http.StatusMethodNotAllowed)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// panelStates loads the panels of these sections concurrently.
func (c *Console) panelStates(ctx context.Context, names ...string) map[string][]state {
	found := map[string][]state{}
	var all sync.WaitGroup
	for _, name := range names {
		states := make([]state, len(c.sections[name]))
		found[name] = states
		for i, p := range c.sections[name] {
			all.Go(func() { states[i] = p.refresh(ctx) })
		}
	}
	all.Wait()
	return found
}
