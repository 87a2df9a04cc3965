package app_test

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alexedwards/argon2id"

	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// The sizing that Keycloak publishes (High availability guide, "Concepts for sizing CPU and memory resources"): for
// each processor 15 sign-ins with a password, or 120 refreshes, a second.
const keycloakLogins, keycloakRefreshes = 15, 120

// processorTime is what this process has used, without Postgres and with the client of the calls.
func processorTime(t testing.TB) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// perCall is the processor time of one of n calls.
func perCall(t testing.TB, n int, call func(i int)) float64 {
	t.Helper()
	begun := processorTime(t)
	for i := range n {
		call(i)
	}
	return float64(processorTime(t)-begun) / float64(n)
}

// refresher returns a function that refreshes the sessions in turns, none of which is refreshed too often.
func (s service) refresher(t testing.TB, sessions int) func(i int) {
	t.Helper()
	tokens := make([]string, sessions)
	for i := range tokens {
		tokens[i] = s.login(t, "ada@example.com").GetRefreshToken()
	}
	return func(i int) {
		token := &tokens[i%len(tokens)]
		resp, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: *token})
		if err != nil {
			t.Error(err)
			return
		}
		*token = resp.GetTokens().GetRefreshToken()
	}
}

// maxConnections is how many connections to its database a replica may have by default.
const maxConnections = 20

// A replica with the default parameters of hashes (argon2id, m=19456, t=2, p=1) and connections.
func TestAReplicaServesMoreSignInsAndRefreshesAProcessorThanKeycloaks(t *testing.T) {
	prove := os.Getenv("PURSER_PROVE") != ""
	if prove && raceEnabled {
		t.Skip("the race detector takes processor time: make prove runs this without it")
	}
	s := start(t, "PURSER_PASSWORD_HASHES_AT_ONCE=0") // the default
	s.register(t, "ada@example.com")
	refresh := s.refresher(t, testkit.Size(8, 250)) // fewer would be refreshed too often
	logins := 1e9 / perCall(t, testkit.Size(3, 200), func(int) { s.login(t, "ada@example.com") })
	refreshes := 1e9 / perCall(t, testkit.Size(20, 5000), refresh)
	testkit.Figure(t, "%.1f sign-ins with a password (goal %d) and %.0f refreshes (goal %d) a second and processor",
		logins, keycloakLogins, refreshes, keycloakRefreshes)
	if prove && (logins <= keycloakLogins || refreshes <= keycloakRefreshes) { // beside other tests it is no figure
		t.Errorf("%.1f sign-ins and %.1f refreshes, want more than %d and %d", logins, refreshes, keycloakLogins,
			keycloakRefreshes)
	}
	var all sync.WaitGroup
	atOnce := testkit.Size(16, 64)
	for range atOnce {
		own := s.refresher(t, 1)
		all.Go(func() {
			for i := range testkit.Size(4, 25) { // a session is refreshed 32 times in ten seconds at most
				own(i)
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	connections := 0
	for busy := true; busy; {
		select {
		case <-ended:
			busy = false
		default:
		}
		var n int
		if err := s.db.SQL().QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'purser-auth'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		connections = max(connections, n)
	}
	testkit.Figure(t, "%d connections to the database with %d calls at once", connections, atOnce)
	if connections < 2 || connections > maxConnections {
		t.Errorf("%d connections to the database, want 2 to %d", connections, maxConnections)
	}
}

// BenchmarkProcessorOfALogin is the processor time of a sign-in with the default parameters, argon2id with 19 MiB and
// two passes, beside that of the hash alone.
func BenchmarkProcessorOfALogin(b *testing.B) {
	s := start(b)
	s.register(b, "ada@example.com")
	hash, err := argon2id.CreateHash(password,
		&argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32})
	if err != nil {
		b.Fatal(err)
	}
	const rounds, batch = 20, 5 // in turns, so that what slows the machine down slows both
	var raw, ours float64
	for range rounds {
		raw += perCall(b, batch, func(int) {
			if ok, err := argon2id.ComparePasswordAndHash(password, hash); err != nil || !ok {
				b.Fatal(ok, err)
			}
		}) / rounds
		ours += perCall(b, batch, func(int) { s.login(b, "ada@example.com") }) / rounds
	}
	if ours < raw*0.9 {
		b.Errorf("a sign-in took %.2f of the time of its hash: it made another", ours/raw)
	}
	report(b, "logins", ours, raw, keycloakLogins)
}

// BenchmarkProcessorOfARefresh is the processor time of a refresh.
func BenchmarkProcessorOfARefresh(b *testing.B) {
	s := start(b)
	s.register(b, "ada@example.com")
	ours := perCall(b, max(b.N, 1000), s.refresher(b, 100))
	report(b, "refreshes", ours, 0, keycloakRefreshes)
}

// report prints what one processor does in a second, and for the table of `make bench` the time of one and its goal.
func report(b *testing.B, what string, ns, raw, goal float64) {
	b.Helper()
	b.ReportMetric(ns, "ns/op")
	b.ReportMetric(1e9/goal, "goal-ns")
	testkit.Figure(b, "%.1f %s/s/processor, goal %g", 1e9/ns, what, goal)
	if raw > 0 {
		b.ReportMetric(raw, "raw-ns/op")
		b.ReportMetric(ns/raw, "ratio")
		testkit.Figure(b, "%.1f raw argon2id (m=19456, t=2, p=1)/s/processor", 1e9/raw)
	}
}
