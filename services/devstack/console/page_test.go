package console_test

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/traces"
)

func TestTheConsoleShowsTheServicesDataInABrowser(t *testing.T) {
	s := startStage(t)
	b := openBrowser(t, "about:blank")
	s.makeTrace(t)
	b.do(chromedp.Navigate(s.console.URL()))
	s.showsWaterfall(t, b)
	b.shows("#services", "portfolio serving")

	s.showsHoldings(t, b)
	s.showsKeysAndJobs(t, b)
	s.showsNewSnapshot(t, b)
	s.showsBackfill(t, b)
	s.hasReadableColours(t, b)
	worksWithKeyboard(t, b)
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

// showsHoldings checks the total and each row. Prices move, so it compares until both agree.
func (s *stage) showsHoldings(t *testing.T, b *browser) {
	t.Helper()
	var want, got []string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the valuation is %q, the page shows %q", want, got)
		}
	})
	testkit.Eventually(t, pageTimeout, func() bool {
		resp, err := s.clients.Portfolios.GetValuation(s.user, &portfoliov1.GetValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want = []string{demo.Money(resp.GetValuation().GetTotal())}
		for _, p := range resp.GetValuation().GetPositions() {
			want = append(want, p.GetSymbol(), demo.Money(p.GetValue()))
		}
		got = append(b.text("#total"), b.text("#holdings tbody th, #holdings td.value")...)
		return slices.Equal(got, want)
	})
	if len(want) < 5 {
		t.Errorf("too few values to compare: %q", want)
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
	if got := b.text(fmt.Sprintf("#t-%s tbody td:nth-child(2)", want.ID)); !slices.Equal(got, services) {
		t.Errorf("the page shows spans of %q, want %q", got, services)
	}
	if got := strings.Join(b.text(fmt.Sprintf("#t-%s tbody th", want.ID)), "\n"); !strings.Contains(got,
		"HoldingsService/GetHoldings") {
		t.Errorf("the page shows %q", got)
	}
	if !eval[bool](b, fmt.Sprintf("document.getElementById('t-%s').open", want.ID)) {
		t.Error("the trace across the services is not open")
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
	b.shows("#value", "There is no snapshot yet.")
	b.do(chromedp.Evaluate[chromedp.Void]("window.loaded = 'once'"))
	resp, err := s.clients.Portfolios.TakeSnapshot(s.user, &portfoliov1.TakeSnapshotRequest{})
	if err != nil {
		t.Fatal(err)
	}
	total := demo.Money(resp.GetSnapshot().GetTotal())
	b.shows("#newest", total)
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
	days, err := s.clients.Portfolios.GetTimeline(s.user,
		&portfoliov1.GetTimelineRequest{StartTime: timestamppb.New(now.Add(-90 * 24 * time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range slices.Backward(days.GetPoints()) {
		want = append(want, p.GetStartTime().AsTime().Format(time.DateOnly), demo.Money(p.GetClose()))
	}
	if len(want) < 6 {
		t.Errorf("too few days to compare: %q", want)
	}
	testkit.Eventually(t, pageTimeout, func() bool {
		return slices.Equal(b.text("#days tbody td:nth-child(1), #days tbody td:nth-child(2)"), want)
	})
	b.shows("#value .changes", "24 hours ")
	testkit.Eventually(t, pageTimeout, func() bool {
		return eval[bool](b, "document.querySelector('#chart canvas')?.clientWidth > 300")
	})
}

// hasReadableColours checks the contrast in both colour schemes, and writes a screenshot of each if
// asked to.
func (s *stage) hasReadableColours(t *testing.T, b *browser) {
	t.Helper()
	if screenshotDir() != "" { // with a trace of a cached valuation
		s.makeTrace(t)
		b.do(chromedp.Reload())
		testkit.Eventually(t, pageTimeout, func() bool {
			return eval[bool](b, "document.querySelector('#chart canvas') !== null")
		})
	}
	background := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		background[scheme] = eval[string](b, "getComputedStyle(document.body).backgroundColor")
		if got := b.lowContrast(); len(got) > 0 {
			t.Errorf("%s: low contrast: %q", scheme, got)
		}
		if dir := screenshotDir(); dir != "" {
			b.screenshot(filepath.Join(dir, "console-"+scheme+".png"))
		}
	}
	b.scheme("light")
	if background["light"] == background["dark"] {
		t.Errorf("light and dark are both %s", background["light"])
	}
	// The control of the contrast.
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('h1').style.color = '#999'"))
	if len(b.lowContrast()) != 1 {
		t.Error("grey on white is not reported")
	}
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('h1').style.color = ''"))
}

// worksWithKeyboard reaches every control with the tab key, and reads the chart.
func worksWithKeyboard(t *testing.T, b *browser) {
	t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void]("document.activeElement.blur()"))
	order := b.focused(8)
	if want := []string{"skip", "pause", "daily", "hourly", "chart", "summary"}; !slices.Equal(order[:len(want)],
		want) {
		t.Errorf("the tab key leads to %q, want %q", order, want)
	}
	b.do(chromedp.Focus(chromedp.CSS("#chart")), chromedp.KeyEvent(kb.End))
	if got := b.text("#readout"); !strings.Contains(got[0], " USD") {
		t.Errorf("the chart says %q", got)
	}
	b.do(chromedp.Focus(chromedp.CSS("#d-days summary")), chromedp.KeyEvent(kb.Enter))
	if !eval[bool](b, "document.getElementById('d-days').open") {
		t.Error("the table of values doesn't open")
	}
}

// showsAnOutageAndItsEnd stops wallet and starts it again.
func (s *stage) showsAnOutageAndItsEnd(t *testing.T, b *browser) {
	t.Helper()
	before := b.text("#holdings tbody th")
	if err := s.StopService("wallet"); err != nil {
		t.Fatal(err)
	}
	b.shows("#services .unavailable", "wallet unavailable since ")
	b.shows("#holdings .notice", "wallet is unavailable since ")
	b.shows("#holdings .notice", "showing its data of ")
	if got := b.text("#holdings tbody th"); !slices.Equal(got, before) {
		t.Errorf("while wallet is unavailable the page shows %q", got)
	}
	if got := b.text("#keys .notice"); len(got) > 0 {
		t.Errorf("auth is available, but the page shows %q", got)
	}
	if err := s.RestartService(t.Context(), "wallet"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, pageTimeout, func() bool { return len(b.text(".notice:not([hidden])")) == 0 })
	s.showsHoldings(t, b)
}
