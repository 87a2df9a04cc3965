package store_test

import (
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/store"
)

// On a busy machine Redis may not answer the release of a lock within its 100 ms. The next page of the same reader was
// refused then, until the lease expired.
func TestALeaseThatCouldNotBeReleasedDoesNotLockItsOwnProcessOut(t *testing.T) {
	server := testkit.Redis(t)
	at, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.Start(at.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	locks := func(redisURL string) *store.Locks {
		client, err := redisx.New(redisx.Options{URL: redisURL})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		locker := lock.New(client, lock.Options{Prefix: "purser:test", Unfenced: true})
		t.Cleanup(locker.Close)
		return store.NewLocks(locker)
	}
	own, other := locks(proxy.Rewrite(server.URL())), locks(server.URL())
	unlock, err := own.Lock(t.Context(), "history:a")
	if err != nil {
		t.Fatal(err)
	}
	proxy.ToServer(faultproxy.Fault{Blackhole: true})
	unlock()
	proxy.Heal()
	var again error
	testkit.Eventually(t, 5*time.Second, func() bool { // until the client has a connection again
		_, again = own.Lock(t.Context(), "history:a")
		return !errors.Is(again, lock.ErrUnavailable)
	})
	if again == nil || errors.Is(again, history.ErrLocked) {
		t.Errorf("the process that could not release it gets: %v", again)
	}
	if _, err := other.Lock(t.Context(), "history:a"); !errors.Is(err, history.ErrLocked) {
		t.Errorf("another process gets: %v", err)
	}
}
