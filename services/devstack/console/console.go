// Package console is a web page that shows the suite at work: the value of the
// demo user's portfolio, the signing keys, the runs of the jobs and the last
// traces. It is part of devstack alone.
//
// It promises: it asks the services over gRPC as any client would, reads and
// never writes; no token leaves this process; whatever a service that is away
// had told before stays on the page, with the time it is of.
//
// Limits: for development. Everybody on this machine can read it; it listens
// on loopback and answers nobody who reached it by another name, which keeps
// pages of elsewhere out.
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

	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/devstack/traces"
)

var (
	//go:embed assets
	assets embed.FS
	//go:embed templates
	pages embed.FS
)

// Options of a console. Addr and Endpoints are required.
type Options struct {
	// Addr to listen on, on loopback.
	Addr      string
	Endpoints suite.Endpoints
	// Email and Password of the user whose portfolio is shown.
	Email, Password string
	// NoUser says why there is none, where Email is empty.
	NoUser string
	// Secret of the service account that Ensure names.
	Secret string
	// Traces to show; may be nil.
	Traces *traces.Ring
	Log    *slog.Logger
}

// Console is a running one.
type Console struct {
	listener net.Listener
	server   *http.Server
	served   chan error
	services *services
	page     *template.Template
	sections map[string][]*panel
	traces   *traces.Ring
	noUser   string
	log      *slog.Logger
}

// Start serves a console until Close.
func Start(ctx context.Context, o Options) (*Console, error) {
	addr, err := net.ResolveTCPAddr("tcp", o.Addr)
	if err != nil || !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("console: %q is not a loopback address", o.Addr)
	}
	page, err := template.New("").Funcs(functions()).ParseFS(pages, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	s, err := dial(o)
	if err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("console: %w", err), s.close())
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Console{
		listener: l, served: make(chan error, 1), services: s, page: page,
		sections: s.sections(), traces: o.Traces, noUser: o.NoUser, log: o.Log,
	}
	c.server = &http.Server{Handler: guarded(l.Addr(), c.routes()), ReadHeaderTimeout: 5 * time.Second,
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
	mux.HandleFunc("GET /value.json", c.series)
	files, _ := fs.Sub(assets, "assets") // the folder is embedded
	mux.Handle("GET /assets/", http.StripPrefix("/assets/", http.FileServerFS(files)))
	return mux
}

// guarded answers only who reads, and who calls the console by a name of this
// machine: a page of elsewhere whose own name was made to lead here is turned
// away.
func guarded(self net.Addr, next http.Handler) http.Handler {
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

// look asks for the state of these sections' panels side by side.
func (c *Console) look(ctx context.Context, names ...string) map[string][]state {
	found := map[string][]state{}
	var all sync.WaitGroup
	for _, name := range names {
		states := make([]state, len(c.sections[name]))
		found[name] = states
		for i, p := range c.sections[name] {
			all.Go(func() { states[i] = p.look(ctx) })
		}
	}
	all.Wait()
	return found
}
