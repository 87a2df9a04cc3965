package attempts_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/internal/bucket/redisbucket"
)

// patience is how long these tests wait for Redis: a replica counts alone when an answer takes longer, and on a busy
// machine one may take longer than redisx.Budget.
const patience = time.Minute

func TestMain(m *testing.M) { testkit.Main(m) }

// replicas are limiters of one service, three of them.
func replicas(t *testing.T, p attempts.Policy, each func() redis.UniversalClient) []*attempts.Limiter {
	t.Helper()
	list := make([]*attempts.Limiter, 3)
	for i := range list {
		var err error
		inRedis := redisbucket.New(each(), "purser:auth:attempts:", patience)
		if list[i], err = attempts.New(p, inRedis, time.Now); err != nil {
			t.Fatal(err)
		}
		// and there is a connection
		if refund, err := list[i].Take(t.Context(), "192.0.2.9", "bob@example.com"); err == nil {
			refund()
		}
	}
	return list
}

// guesses makes 60 at once and returns how many were let through, and how
// many more may have been refilled meanwhile.
func guesses(t *testing.T, list []*attempts.Limiter) (through, refilled int) {
	t.Helper()
	begun := time.Now()
	var accepted atomic.Int32
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			if _, err := list[i%len(list)].Take(t.Context(), "192.0.2.1", "ada@example.com"); err == nil {
				accepted.Add(1)
			} else if !errs.Is(err, errs.KindExhausted) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return int(accepted.Load()), int(time.Since(begun) / (12 * time.Second))
}

func TestReplicasCountTogether(t *testing.T) {
	policy := attempts.Policy{PerAccount: 5, PerAddress: 1000}
	server := testkit.Redis(t)
	list := replicas(t, policy, func() redis.UniversalClient { return client(t, server.URL()) })
	through, refilled := guesses(t, list)
	if through < 5 || through > 5+refilled {
		t.Errorf("%d guesses went through, want 5", through)
	}
	_, err := list[1].Take(t.Context(), "192.0.2.2", "ada@example.com")
	if e := errs.As(err); e == nil || e.Reason != "TOO_MANY_ATTEMPTS" || e.RetryAfter <= 0 ||
		e.RetryAfter > 12*time.Second {
		t.Errorf("one more is answered %v", err)
	}
	for _, key := range client(t, server.URL()).Keys(t.Context(), "*").Val() {
		if ttl := client(t, server.URL()).PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Minute+time.Second {
			t.Errorf("%s stays for %s", key, ttl)
		}
	}
}

// The control of TestReplicasCountTogether.
func TestReplicasThatCountAloneLetMoreThrough(t *testing.T) {
	list := replicas(t, attempts.Policy{PerAccount: 5, PerAddress: 1000},
		func() redis.UniversalClient { return client(t, "redis://127.0.0.1:1/0") })
	if through, _ := guesses(t, list); through < 15 {
		t.Errorf("%d guesses went through, want 15", through)
	}
}

func TestWhatIsGivenBackToAllCanBeTakenAgain(t *testing.T) {
	server := testkit.Redis(t)
	list := replicas(t, attempts.Policy{PerAccount: 1, PerAddress: 1},
		func() redis.UniversalClient { return client(t, server.URL()) })
	for i := range 20 {
		refund, err := list[i%len(list)].Take(t.Context(), "192.0.2.1", "ada@example.com")
		if err != nil {
			t.Fatalf("the attempt %d: %v", i, err)
		}
		refund()
	}
	if _, err := list[0].Take(t.Context(), "192.0.2.1", "ada@example.com"); err != nil {
		t.Fatal(err)
	}
	// Refused for its account, an attempt costs its address nothing.
	for range 3 {
		if _, err := list[1].Take(t.Context(), "192.0.2.2", "ada@example.com"); !errs.Is(err, errs.KindExhausted) {
			t.Fatalf("a second of one account is answered %v", err)
		}
	}
	if _, err := list[1].Take(t.Context(), "192.0.2.2", "bob@example.com"); err != nil {
		t.Errorf("the first that counts from an address: %v", err)
	}
}

func TestWithoutRedisAReplicaStillCounts(t *testing.T) {
	server := testkit.Redis(t)
	list := replicas(t, attempts.Policy{PerAccount: 5, PerAddress: 1000},
		func() redis.UniversalClient { return client(t, server.URL()) })
	if _, err := list[0].Take(t.Context(), "192.0.2.1", "ada@example.com"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if through, refilled := guesses(t, list); through < 1 || through > 14+3*refilled {
		t.Errorf("%d guesses went through without Redis, want at most 5 a replica, of which one was accepted before",
			through)
	}
}
