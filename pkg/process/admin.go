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

// port is the admin port or that of metrics.
type port struct {
	server *http.Server
	ended  chan struct{}
}

// metricsHandler serves /metrics, in the format of Prometheus or, if the client accepts
// it, OpenMetrics with exemplars.
func metricsHandler(metrics *prometheus.Registry) *http.ServeMux {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics,
		promhttp.HandlerOpts{Registry: metrics, EnableOpenMetrics: true}))
	return mux
}

// adminHandler serves what metricsHandler does; /debug/pprof/; and /log-level, where GET
// returns the level and PUT with a level as the body sets it until the process ends.
func adminHandler(metrics *prometheus.Registry, level *slog.LevelVar, log *slog.Logger) *http.ServeMux {
	mux := metricsHandler(metrics)
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
	return mux
}

// listen serves a handler on an address, which the variable has set; name is for the log.
func listen(ctx context.Context, variable, name, addr string, handler http.Handler, log *slog.Logger) (*port, error) {
	lis, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	p := &port{ended: make(chan struct{}), server: &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10,
	}}
	log.InfoContext(ctx, name, "addr", lis.Addr().String())
	go func() {
		defer close(p.ended)
		if err := p.server.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
			log.Error(name, "error", err)
		}
	}()
	return p, nil
}

func (p *port) close() {
	_ = p.server.Close() // at once: a profile in progress is of no use any more
	<-p.ended
}
