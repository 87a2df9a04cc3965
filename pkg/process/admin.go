package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// admin is the admin port.
type admin struct {
	server *http.Server
	ended  chan struct{}
}

// listenAdmin serves the admin port: /metrics, in the format of Prometheus or, if
// the client accepts it, OpenMetrics with exemplars; /debug/pprof/; and
// /log-level, where GET returns the level and PUT with a level as the body sets it
// until the process ends.
func listenAdmin(ctx context.Context, addr string, metrics *prometheus.Registry, level *slog.LevelVar,
	log *slog.Logger) (*admin, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("PURSER_ADMIN_ADDR: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics,
		promhttp.HandlerOpts{Registry: metrics, EnableOpenMetrics: true}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /log-level", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, level.Level())
	})
	mux.HandleFunc("PUT /log-level", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16))
		if err == nil {
			err = level.UnmarshalText(b)
		}
		if err != nil {
			http.Error(w, "the level must be DEBUG, INFO, WARN or ERROR", http.StatusBadRequest)
			return
		}
		log.WarnContext(r.Context(), "log level set", "level", level.Level())
		_, _ = fmt.Fprintln(w, level.Level())
	})
	a := &admin{ended: make(chan struct{}), server: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
	}}
	log.InfoContext(ctx, "admin port", "addr", lis.Addr().String())
	go func() {
		defer close(a.ended)
		if err := a.server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			log.Error("admin port", "error", err)
		}
	}()
	return a, nil
}

func (a *admin) close() {
	_ = a.server.Close() // at once: a profile in progress is of no use any more
	<-a.ended
}
