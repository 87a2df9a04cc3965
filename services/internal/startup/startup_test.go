package startup_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/startup"
)

// thing is something that works from when it is told to.
type thing struct {
	works atomic.Bool
	asked atomic.Int32
}

func (th *thing) ask(context.Context) error {
	th.asked.Add(1)
	if th.works.Load() {
		return nil
	}
	return errs.Unavailable("THING_BROKEN", "it is broken")
}

func TestAGateOpensWhenEverythingHasWorkedOnce(t *testing.T) {
	logs := &testkit.LogBuffer{}
	g := startup.New(slog.New(slog.NewTextHandler(logs, nil)))
	var database, schema, keys thing
	g.Add(startup.Check{Name: "database", Settings: "PURSER_X", Probe: database.ask})
	g.Add(startup.Check{Name: "schema", After: []string{"database"}, Probe: schema.ask})
	g.Add(startup.Check{Name: "keys", Probe: keys.ask})
	ready := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx, func() { close(ready) }) }()
	page := httptest.NewServer(g.Handler(http.NotFoundHandler()))
	defer page.Close()
	status := func() int {
		t.Helper()
		answer, err := http.Get(page.URL)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.StatusCode
	}

	testkit.Eventually(t, time.Minute, func() bool { return database.asked.Load() > 2 })
	if schema.asked.Load() > 0 {
		t.Error("the schema was asked for before the database worked")
	}
	if e := errs.As(g.Err()); e == nil || e.Kind != errs.KindUnavailable || e.Reason != "STARTING" ||
		status() != http.StatusServiceUnavailable || !g.Fails("database") || g.Fails("schema") {
		t.Errorf("a closed gate: %v", g.Err())
	}
	keys.works.Store(true)
	database.works.Store(true)
	testkit.Eventually(t, time.Minute, func() bool { return schema.asked.Load() > 0 })
	database.works.Store(false) // it has worked once
	keys.works.Store(false)
	schema.works.Store(true)
	testkit.Receive(t, ready, 10*time.Second)
	if g.Err() != nil || !g.Wait(t.Context()) || status() != http.StatusNotFound {
		t.Errorf("an open gate: %v", g.Err())
	}
	stop()
	if err := testkit.Receive(t, ended, 10*time.Second); err != nil {
		t.Error(err)
	}
	for text, times := range map[string]int{
		"missing=database reason=THING_BROKEN error=\"it is broken\" settings=PURSER_X": 1,
		"missing=keys": 1, "missing=schema": 1, "msg=ready": 1, "level=WARN": 3,
	} {
		if n := strings.Count(logs.String(), text); n != times {
			t.Errorf("%q is logged %d times, not %d:\n%s", text, n, times, logs)
		}
	}
}

func TestAGateThatNeverOpensEndsWithItsProcess(t *testing.T) {
	g := startup.New(slog.New(slog.DiscardHandler))
	g.Add(startup.Check{Name: "x", Probe: func(context.Context) error { return errors.New("no") }})
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := g.Run(ctx, func() { t.Error("ready") }); err != nil || g.Wait(ctx) {
		t.Errorf("it ended with %v", err)
	}
}

// What takes time is asked while the rest of the service is built, and not again by the first Try.
func TestACheckCanBeginBeforeTheFirstTry(t *testing.T) {
	g := startup.New(slog.New(slog.DiscardHandler))
	var database, schema thing
	database.works.Store(true)
	schema.works.Store(true)
	begun, answer := make(chan struct{}), make(chan struct{})
	g.Begin(t.Context(), startup.Check{Name: "database", Probe: func(ctx context.Context) error {
		close(begun) // which fails the second time
		<-answer
		return database.ask(ctx)
	}})
	g.Add(startup.Check{Name: "schema", After: []string{"database"}, Probe: schema.ask})
	testkit.Receive(t, begun, 10*time.Second)
	ended, stop := context.WithCancel(t.Context())
	stop()
	if g.Try(ended) || schema.asked.Load() > 0 {
		t.Error("the gate opened before the check had its answer")
	}
	close(answer)
	if !g.Try(t.Context()) || database.asked.Load() != 1 || schema.asked.Load() != 1 {
		t.Errorf("the checks were asked %d and %d times, want once", database.asked.Load(), schema.asked.Load())
	}
	failing := startup.New(slog.New(slog.DiscardHandler))
	var keys thing
	failing.Begin(t.Context(), startup.Check{Name: "keys", Probe: keys.ask})
	if failing.Try(t.Context()) {
		t.Error("a gate opened without its keys")
	}
	keys.works.Store(true)
	if !failing.Try(t.Context()) || keys.asked.Load() != 2 {
		t.Errorf("keys that failed at first were asked %d times", keys.asked.Load())
	}
}
