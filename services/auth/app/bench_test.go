package app_test

import (
	"slices"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit/versus"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// BenchmarkRefresh is a refresh through gRPC, beside a transaction of one
// update on the same database.
func BenchmarkRefresh(b *testing.B) {
	s := start(b)
	s.register(b, "ada@example.com")
	tokens := make([]string, 100) // of as many sessions, none of which is refreshed too often
	for i := range tokens {
		tokens[i] = s.login(b, "ada@example.com").GetRefreshToken()
	}
	raw, err := s.db.SQL().Conn(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = raw.Close() })
	var took []float64
	versus.Run(b, versus.Comparison{Raw: func() {
		if _, err := raw.ExecContext(b.Context(), "UPDATE users SET display_name = 'Ada'"); err != nil {
			b.Fatal(err)
		}
	}, Ours: func() {
		begun, token := time.Now(), &tokens[len(took)%len(tokens)]
		resp, err := s.sessions.Refresh(b.Context(), &authv1.RefreshRequest{RefreshToken: *token})
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun).Seconds()*1000)
		*token = resp.GetTokens().GetRefreshToken()
	}})
	slices.Sort(took)
	b.ReportMetric(took[len(took)*99/100], "p99-ms")
	b.ReportMetric(15, "goal-ms")
}
