package console_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/traces"
	"github.com/purserhq/purser/services/internal/terminal"
)

func TestTheConsoleShowsTheServicesDataInABrowser(t *testing.T) {
	s := startStage(t)
	b := openBrowser(t, "about:blank")
	s.makeTrace(t)
	b.do(chromedp.Navigate(s.console.URL()))
	s.showsWaterfall(t, b)
	for _, service := range []string{"auth", "wallet", "portfolio"} {
		b.shows("#services .up", service+" up")
	}

	s.showsHoldings(t, b)
	s.showsLoans(t, b)
	s.showsAlerts(t, b)
	s.showsWallets(t, b)
	s.showsKeysAndJobs(t, b)
	s.showsNewSnapshot(t, b)
	s.showsBackfill(t, b)
	s.showsPerformance(t, b)
	s.showsOverTime(t, b, "USD")
	s.showsAnotherCurrency(t, b)
	s.showsFailuresFirst(t, b)
	s.keepsAnOpenTrace(t, b)
	s.filtersTraces(t, b)
	s.looksRight(t, b)
	worksWithKeyboard(t, b)
	s.showsWhyAValueIsIncomplete(t, b)
	s.showsAFrozenDatabase(t, b)
	s.showsAnOutageAndItsEnd(t, b)

	if got := b.foreignRequests(s.console.URL()); len(got) > 0 {
		t.Errorf("the page sent requests to other hosts: %q", got)
	}
	if got := b.loggedErrors(); len(got) > 0 {
		t.Errorf("the browser logged errors: %q", got)
	}
	if page := eval[string](b, "document.documentElement.outerHTML"); strings.Contains(page, "eyJ") ||
		strings.Contains(page, s.secret) {
		t.Error("a token or a secret is on the page")
	}
}

// makeTrace traces a valuation across the services.
func (s *stage) makeTrace(t *testing.T) {
	t.Helper()
	if err := (&demo.Result{Token: s.token}).ShowTrace(t.Context(), s.Endpoints, s.ring, io.Discard); err != nil {
		t.Fatal(err)
	}
}

// showsKeysAndJobs checks the signing keys and the job runs.
func (s *stage) showsKeysAndJobs(t *testing.T, b *browser) {
	t.Helper()
	issued, err := s.clients.Sessions.IssueServiceAccountToken(t.Context(),
		&authv1.IssueServiceAccountTokenRequest{ClientId: "console", ClientSecret: s.secret})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: s.Endpoints.Auth, Plaintext: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	admin, as := authv1.NewAdminServiceClient(conn), grpcclient.WithToken(t.Context(), issued.GetAccessToken())
	testkit.Eventually(t, pageTimeout, func() bool {
		keys, err := admin.ListSigningKeys(as, &authv1.ListSigningKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, k := range keys.GetKeys() {
			want = append(want, k.GetKid()+" SIGNING_KEY_STATE_"+strings.ToUpper(
				eval[string](b, fmt.Sprintf("document.querySelector('[data-kid=%q] .tag')?.textContent ?? ''",
					k.GetKid()))))
			if want[len(want)-1] != k.GetKid()+" "+k.GetState().String() {
				return false
			}
		}
		return len(want) > 1 && len(want) == len(b.text("[data-kid]"))
	})
	b.shows("#keys", "Next step in ")
	if err := conn.Invoke(as, "/purser.made.up.Service/Method", &authv1.ListSigningKeysRequest{},
		&authv1.ListSigningKeysResponse{}); err == nil {
		t.Error("a method that there is not was called")
	}
	jobs := jobsv1.NewJobServiceClient(conn)
	s.trigger(t, jobs)
	b.shows("[data-run=auth] th", "seal_audit by hand")
	testkit.Eventually(t, pageTimeout, func() bool {
		runs, err := jobs.ListJobRuns(as, &jobsv1.ListJobRunsRequest{PageSize: 8})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, r := range runs.GetRuns() {
			name := r.GetJob()
			if r.GetManual() {
				name += " by hand"
			}
			state := strings.ToLower(strings.TrimPrefix(r.GetState().String(), "JOB_RUN_STATE_"))
			want = append(want, name, state)
		}
		return slices.Equal(b.text("[data-run=auth] th, [data-run=auth] .tag"), want)
	})
}

// trigger runs a job of auth once, which needs a user with the role admin.
func (s *stage) trigger(t *testing.T, jobs jobsv1.JobServiceClient) {
	t.Helper()
	if _, err := s.AuthCommand(t.Context(), "admin", "grant", email, "--unverified"); err != nil {
		t.Fatal(err)
	}
	in, err := s.clients.Sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	as := grpcclient.WithToken(t.Context(), in.GetTokens().GetAccessToken())
	if _, err := jobs.TriggerJob(as, &jobsv1.TriggerJobRequest{Job: "seal_audit"}); err != nil {
		t.Fatal(err)
	}
}

// showsWaterfall checks that the newest trace of a valuation that reached wallet is shown span by span. The page has
// just been loaded: newer traces replace it soon, and the page itself keeps valuations in the cache.
func (s *stage) showsWaterfall(t *testing.T, b *browser) {
	t.Helper()
	want := s.newestValuation(t)
	var services []string
	for _, span := range want.Spans {
		services = append(services, span.Service)
	}
	opened := fmt.Sprintf(".group[open] > .trace[open][data-trace='%s']", want.ID)
	b.shows(opened+" tbody th", "HoldingsService/GetHoldings")
	if got := b.text(opened + " tbody td:nth-child(2)"); !slices.Equal(got, services) {
		t.Errorf("the page shows spans of %q, want %q", got, services)
	}
}

// newestValuation is the newest trace of a valuation of the demo that read wallet's database.
func (s *stage) newestValuation(t *testing.T) traces.Trace {
	t.Helper()
	for _, tr := range s.ring.Recent(ringSpans) {
		if tr.Has("wallet", "postgresql") && tr.Spans[0].Service == "demo" {
			return tr
		}
	}
	t.Fatal("there is no such trace")
	return traces.Trace{}
}

// showsNewSnapshot takes a snapshot and waits for it on the open page.
func (s *stage) showsNewSnapshot(t *testing.T, b *browser) {
	t.Helper()
	b.shows("#value .beside", "There is no snapshot yet.")
	b.do(chromedp.Evaluate[chromedp.Void]("window.loaded = 'once'"))
	resp, err := s.clients.Portfolios.TakeSnapshot(s.user, &portfoliov1.TakeSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	total := terminal.Money(resp.GetSnapshot().GetTotal())
	b.shows("#newest", total)
	b.shows("#value .beside", resp.GetSnapshot().GetSnapshotTime().AsTime().Format("2006-01-02 15:04:05 UTC"))
	b.shows("#days", "1 rows")
	testkit.Eventually(t, pageTimeout, func() bool {
		return strings.Contains(eval[string](b, "document.getElementById('chart').ariaLabel"), total+" USD")
	})
	if eval[string](b, "window.loaded ?? ''") != "once" {
		t.Error("the page was loaded again")
	}
}

// showsBackfill takes snapshots of past hours and waits for every day of them.
func (s *stage) showsBackfill(t *testing.T, b *browser) {
	t.Helper()
	now := time.Now().Truncate(time.Hour)
	for from := timestamppb.New(now.Add(time.Hour - history())); from != nil; {
		resp, err := s.clients.Portfolios.TakeSnapshot(s.user,
			&portfoliov1.TakeSnapshotRequest{StartTime: from, EndTime: timestamppb.New(now)})
		if err != nil {
			t.Fatal(err)
		}
		from = resp.GetBackfill().GetNextStartTime()
	}
	var want []string
	testkit.Eventually(t, pageTimeout, func() bool { // a Redis that is slow is told later of what changed
		days, err := s.clients.Portfolios.GetTimeline(s.user,
			&portfoliov1.GetTimelineRequest{StartTime: timestamppb.New(now.Add(-90 * 24 * time.Hour))})
		if err != nil {
			t.Fatal(err)
		}
		want = nil
		for _, p := range slices.Backward(days.GetPoints()) {
			want = append(want, p.GetStartTime().AsTime().Format(time.DateOnly), terminal.Money(p.GetClose()))
		}
		return len(want) >= 6
	})
	testkit.Eventually(t, pageTimeout, func() bool {
		return slices.Equal(b.text("#days tbody th, #days tbody td:nth-child(2)"), want)
	})
	b.shows("#value .changes", "deposits and withdrawals included 24 hours ")
	if got := b.text("#value"); strings.Contains(got[0], "%") {
		t.Errorf("a percentage looks like a return: %q", got)
	}
	s.fillsFromZeroOnly(t, b)
	testkit.Eventually(t, pageTimeout, func() bool {
		return eval[bool](b, "document.querySelector('#chart canvas')?.clientWidth > 300")
	})
}
