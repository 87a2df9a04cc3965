package redisx_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

// as returns the URL of a server for a user with a password.
func as(t *testing.T, address, user, password string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if u.User = url.UserPassword(user, password); user+password == "" {
		u.User = nil
	}
	return u.String()
}

func TestARefusalIsToldFromAnOutage(t *testing.T) {
	server := testkit.Redis(t)
	admin, err := redisx.New(redisx.Options{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	for _, command := range [][]any{
		{"ACL", "SETUSER", "service", "on", ">hunter2", "~purser:*", "+@all"},
		{"ACL", "SETUSER", "elsewhere", "on", ">hunter2", "~other:*", "+@all"},
		{"ACL", "SETUSER", "reader", "on", ">hunter2", "~purser:*", "+ping", "+get"},
	} {
		if err := admin.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	node := strings.Split(testkit.RedisCluster(t).URL(), "?")[0]
	page := httptest.NewTLSServer(http.NotFoundHandler())
	defer page.Close()
	for name, tc := range map[string]struct {
		url     string
		want    string // part of the error; "" for none
		refused bool
	}{
		"the service's user":        {as(t, server.URL(), "service", "hunter2"), "", false},
		"a wrong password":          {as(t, server.URL(), "service", "hunter3"), "WRONGPASS", true},
		"keys of others":            {as(t, server.URL(), "elsewhere", "hunter2"), "NOPERM", true},
		"too few commands":          {as(t, server.URL(), "reader", "hunter2"), "NOPERM", true},
		"a node of a Cluster":       {node, "it is a node of a Cluster", true},
		"a server that isn't there": {"redis://127.0.0.1:1/0", "refused", false},
		"a certificate of nobody":   {"rediss://" + page.Listener.Addr().String() + "/0", "certificate", true},
	} {
		probe, err := redisx.NewProbe(redisx.Options{URL: tc.url, Timeout: 3 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		err = probe.Accepts(t.Context(), "purser:test:{start}")
		if (err == nil) != (tc.want == "") || err != nil && (!strings.Contains(err.Error(), tc.want) ||
			strings.Contains(err.Error(), "hunter")) || redisx.IsRefusal(err) != tc.refused {
			t.Errorf("%s: %v, refused %t", name, err, redisx.IsRefusal(err))
		}
		if err := probe.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whoever uses a server that refuses counts it as one that is down, and the log says why, once.
func TestAServerThatRefusesCountsAsUnavailable(t *testing.T) {
	server := testkit.Redis(t)
	admin, err := redisx.New(redisx.Options{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "+ping").Err(); err != nil {
		t.Fatal(err)
	}
	cluster := testkit.RedisCluster(t)
	for name, tc := range map[string]struct{ url, why string }{
		"a wrong password":    {as(t, server.URL(), "reader", "hunter3"), "WRONGPASS"},
		"no permission":       {as(t, server.URL(), "reader", "hunter2"), "NOPERM"},
		"a node of a Cluster": {strings.Split(cluster.URL(), "?")[0], "MOVED"},
	} {
		t.Run(name, func(t *testing.T) {
			logs := &testkit.LogBuffer{}
			client, err := redisx.New(redisx.Options{URL: tc.url, Timeout: time.Second,
				Log: slog.New(slog.NewTextHandler(logs, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			for _, key := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				err := client.Get(ctx, key).Err()
				cancel()
				if err == nil || errors.Is(err, redis.Nil) {
					continue // this node of the Cluster has the key's slot
				}
				if !errors.Is(redisx.Unavailable(err), redisx.ErrUnavailable) {
					t.Errorf("%s: %v isn't ErrUnavailable", key, err)
				}
			}
			if tc.why == "MOVED" {
				return // every third key is answered, so that the breaker stays closed
			}
			got := logs.String()
			if strings.Count(got, "redis is unavailable") != 1 || !strings.Contains(got, tc.why) ||
				strings.Contains(got, "hunter") {
				t.Errorf("the log says\n%s", got)
			}
		})
	}
}
