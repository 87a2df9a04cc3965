package grpcserver_test

import (
	"sync/atomic"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
)

func TestUntilItIsReadyAServerTakesNoCallsAndIsNotHealthy(t *testing.T) {
	var ready atomic.Bool
	r := start(t, plaintext(), echo{}, func(d *grpcserver.Deps) {
		d.Starting = func() error {
			if ready.Load() {
				return nil
			}
			return errs.Unavailable("STARTING", "it is starting")
		}
	})
	health := func() healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		answer, err := healthpb.NewHealthClient(r.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetStatus()
	}
	for _, method := range []string{open, mine} {
		_, e := r.call(t.Context(), method, newNote("x"))
		if reason(e) != "STARTING" || e.Kind != errs.KindUnavailable || e.RetryAfter == 0 {
			t.Errorf("%s is answered with %v", method, e)
		}
	}
	if got := health(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("its health is %s", got)
	}
	if lines := r.log.lines(t, "dependency unavailable"); len(lines) > 0 {
		t.Errorf("calls that are refused look like an outage: %v", lines)
	}
	ready.Store(true)
	r.Ready()
	if _, e := r.call(t.Context(), mine, newNote("x")); reason(e) != "TOKEN_MISSING" {
		t.Errorf("a call without a token is answered with %v", e)
	}
	if got := health(); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("its health is %s", got)
	}
	r.Shutdown(t.Context())
	r.Ready() // too late
}
