package redisx

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// warned runs WarnOfEviction until it has logged what is wanted.
func warned(t *testing.T, url, want string) {
	t.Helper()
	c, err := New(Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, stop := context.WithCancel(t.Context())
	var log testkit.LogBuffer
	ended := make(chan error, 1)
	go func() { ended <- WarnOfEviction(ctx, c, slog.New(slog.NewTextHandler(&log, nil))) }()
	testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(log.String(), want) })
	stop()
	if err := testkit.Receive(t, ended, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestAServerThatMayEvictKeysIsWarnedOf(t *testing.T) {
	s := testkit.Redis(t)
	c, err := New(Options{URL: s.URL(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if policy, err := evictionPolicy(t.Context(), c); policy != "noeviction" || err != nil {
		t.Fatal(policy, err)
	}
	for _, policy := range []string{"allkeys-lru", "volatile-ttl"} {
		if err := c.ConfigSet(t.Context(), "maxmemory-policy", policy).Err(); err != nil {
			t.Fatal(err)
		}
		warned(t, s.URL(), "level=WARN msg=\"redis may evict locks and challenges: set maxmemory-policy to "+
			"noeviction\" maxmemory_policy="+policy)
	}
}

// A service that starts before its Redis is warned when that answers.
func TestAServerThatAnswersLateIsWarnedOfToo(t *testing.T) {
	s := testkit.Redis(t)
	s.Kill()
	c, err := New(Options{URL: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var log testkit.LogBuffer
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- WarnOfEviction(ctx, c, slog.New(slog.NewTextHandler(&log, nil))) }()
	testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(log.String(), "can't be read") })
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	setter, err := New(Options{URL: s.URL(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer setter.Close()
	if err := setter.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 2*evictionInterval, func() bool { return strings.Contains(log.String(), "allkeys-lru") })
	stop()
	if err := testkit.Receive(t, ended, time.Minute); err != nil {
		t.Error(err)
	}
}
