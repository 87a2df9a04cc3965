package redisx_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

// The rules are those of docs/least-privilege.md.
func TestAUserOfSentinelsNeedsFewCommands(t *testing.T) {
	group := testkit.RedisSentinel(t)
	var sentinels []*redis.Client
	for _, s := range group.Sentinels {
		o, err := redis.ParseURL(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		c := redis.NewClient(o)
		t.Cleanup(func() { _ = c.Close() })
		err = c.Do(t.Context(), "ACL", "SETUSER", "purser", "on", ">pw", "allchannels", "-@all", "+ping",
			"+client|setname", "+subscribe", "+sentinel|get-master-addr-by-name", "+sentinel|sentinels").Err()
		if err != nil {
			t.Fatal(err)
		}
		sentinels = append(sentinels, c)
	}
	u, err := url.Parse(group.URL())
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("sentinel_username", "purser")
	q.Set("sentinel_password", "pw")
	u.RawQuery = q.Encode()
	c := open(t, redisx.Options{URL: u.String(), Name: "purser-test"})
	testkit.Eventually(t, time.Minute, func() bool { _, err := get(t, c); return err == nil })
	testkit.Eventually(t, time.Minute, func() bool { // it is told of failovers
		listens := false
		for _, s := range sentinels {
			clients, err := s.Do(t.Context(), "CLIENT", "LIST", "TYPE", "PUBSUB").Text()
			if err != nil {
				t.Fatal(err)
			}
			listens = listens || strings.Contains(clients, "name=purser-test ")
		}
		return listens
	})
	for i, s := range sentinels {
		if refused, err := s.Do(t.Context(), "ACL", "LOG").Slice(); err != nil || len(refused) > 0 {
			t.Errorf("Sentinel %d refused %v, %v", i, refused, err)
		}
	}
	t.Run("control: a wrong password of the Sentinels", func(t *testing.T) {
		q.Set("sentinel_password", "wrong")
		u.RawQuery = q.Encode()
		wrong := open(t, redisx.Options{URL: u.String()})
		if _, err := get(t, wrong); err == nil {
			t.Error("it is let in")
		}
	})
}
