package jobs

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

func newLocker(t testing.TB, s *redisserver.Server) *lock.Locker {
	// a busy machine must not look like an outage
	client, err := redisx.New(redisx.Options{URL: s.URL(), Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	l := lock.New(client, lock.Options{Prefix: "purser:test", Budget: patience})
	t.Cleanup(l.Close)
	return l
}

func TestRedisSparesTheDatabaseAndIsNotNeeded(t *testing.T) {
	f, s := setup(t), testkit.Redis(t)
	locker := newLocker(t, s)
	var ran atomic.Int64
	r := f.runner(Options{Locker: locker}, Job{Name: "j", Cron: "* * * * *",
		Run: func(context.Context, *Run) error { ran.Add(1); return nil }})
	g, err := locker.Try(t.Context(), "job:j", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	f.forward(time.Minute)
	f.poll(r)
	if ran.Load() != 0 {
		t.Fatal("ran though another replica has the lock")
	}
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	f.poll(r)
	s.Kill()
	f.forward(time.Minute)
	f.poll(r)
	if ran.Load() != 2 {
		t.Fatalf("%d runs, one of them without Redis", ran.Load())
	}
}

func TestTheLedgerAloneIsEnoughWhenRedisGoesAway(t *testing.T) {
	ticks := testkit.Size(30, 300)
	s := testkit.Redis(t)
	tr := setup(t).trial(3, Job{Name: "tick", Cron: "* * * * *"})
	for _, r := range tr.replicas {
		r.o.Locker = newLocker(t, s)
	}
	tr.rounds(ticks / 3)
	s.Kill()
	tr.rounds(ticks / 3)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr.rounds(ticks / 3)
	if wrong := tr.wrong(ticks); wrong != 0 || tr.beside != 0 {
		t.Fatalf("%d ticks not claimed once, %d runs beside another", wrong, tr.beside)
	}
	testkit.Figure(t, "%d ticks, 3 replicas, Redis killed for a third of them: one claim each", ticks)
}
