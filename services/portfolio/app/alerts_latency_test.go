package app_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// From the moment at which the wallet service tells of a change to the webhook, while many rules watch. The goal is of
// the full size alone: an ordinary run has no more than the machine gives.
func TestAChangeReachesItsWebhookWhileManyRulesWatch(t *testing.T) {
	owners, rules, changes := testkit.Size(5, 100), 10, testkit.Size(10, 200)
	a, _, w := live(t, webhookSettings("PURSER_ALERTS_EVERY=30s")...)
	var mu sync.Mutex
	begun, took := map[string]time.Time{}, []time.Duration{}
	var r *receiver
	users := make([]string, owners)
	for i := range owners {
		id := uuid.New()
		users[i] = id.String()
		ctx, _ := a.as(t, id, "portfolio:read", "portfolio:write", "wallet:read")
		if i == 0 {
			r = newReceiver(t)
			r.answer = func(_ http.ResponseWriter, req *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				if at, waits := begun[req.URL.Path]; waits {
					took = append(took, time.Since(at))
					delete(begun, req.URL.Path)
				}
			}
		}
		a.endpoint(ctx, t, r, "/"+users[i])
		for n := range rules { // one of which fires
			limit := "1"
			if n > 0 {
				limit = strconv.Itoa(1_000_000_000 + n)
			}
			a.rule(ctx, t, &portfoliov1.CreateAlertRuleRequest{Kind: portfoliov1.AlertKind_ALERT_KIND_TRANSFER,
				TokenId: liveToken, Limit: limit})
		}
	}
	looked := func() (n int) {
		err := a.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM alert_rules WHERE base <> ''").Scan(&n)
		if err != nil {
			t.Error(err)
		}
		return n
	}
	testkit.Eventually(t, time.Minute, func() bool { return looked() == owners*rules })
	for i := range changes {
		user := users[i%owners]
		// A rule fires once a minute at most: this test has no minute for each.
		a.exec(t, "UPDATE alert_rules SET fired_at = NULL WHERE owner_id = '"+user+"'")
		mu.Lock()
		begun["/"+user] = time.Now()
		mu.Unlock()
		w.hold(strconv.Itoa(100*(i+2)), user)
		testkit.Eventually(t, 30*time.Second, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(took) == i+1
		})
	}
	r.check(t)
	slices.Sort(took)
	at := func(part float64) time.Duration { return took[int(part*float64(len(took)-1))].Round(time.Millisecond) }
	testkit.Figure(t, "%d rules of %d owners, %d changes: to the webhook p50 %s, p99 %s, at most %s (goal: p99 500ms)",
		owners*rules, owners, changes, at(0.5), at(0.99), at(1))
	if testkit.Size(0, 1) == 1 && at(0.99) > 500*time.Millisecond {
		t.Error(fmt.Sprint("p99 is ", at(0.99)))
	}
}
