package app_test

import (
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
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// perCall is the processor time of one of n calls.
func perCall(b *testing.B, n int, call func(i int)) float64 {
	b.Helper()
	begun := processorTime(b)
	for i := range n {
		call(i)
	}
	return float64(processorTime(b)-begun) / float64(n)
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
	report(b, "logins", ours, raw, keycloakLogins)
}

// BenchmarkProcessorOfARefresh is the processor time of a refresh.
func BenchmarkProcessorOfARefresh(b *testing.B) {
	s := start(b)
	s.register(b, "ada@example.com")
	tokens := make([]string, 100) // of as many sessions, none of which is refreshed too often
	for i := range tokens {
		tokens[i] = s.login(b, "ada@example.com").GetRefreshToken()
	}
	ours := perCall(b, max(b.N, 1000), func(i int) {
		token := &tokens[i%len(tokens)]
		resp, err := s.sessions.Refresh(b.Context(), &authv1.RefreshRequest{RefreshToken: *token})
		if err != nil {
			b.Fatal(err)
		}
		*token = resp.GetTokens().GetRefreshToken()
	})
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
