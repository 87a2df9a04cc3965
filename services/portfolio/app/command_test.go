package app_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/process"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/portfolio/app"
)

// command runs a command of the service with these additional settings, and returns what it prints.
func (s service) command(ctx context.Context, t *testing.T, args []string, settings ...string) (string, error) {
	t.Helper()
	cfg, err := app.Load(append([]string{"PURSER_DATABASE_URL=" + s.db.URL, "PURSER_REDIS_URL=" + servicetest.NoRedis,
		"PURSER_ISSUER=" + s.issuer.URL, "PURSER_WALLET_ADDR=" + s.walletAddr, "PURSER_WALLET_PLAINTEXT=true",
		"PURSER_GRPC_PLAINTEXT=true"}, settings...))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = app.Command(ctx, cfg, slog.New(slog.DiscardHandler), args, &out)
	return out.String(), err
}

// account are the settings of the service account of the auth service at this address.
func account(auth string) []string {
	return []string{"PURSER_AUTH_ADDR=" + auth, "PURSER_AUTH_PLAINTEXT=true", "PURSER_SERVICE_ID=portfolio",
		"PURSER_SERVICE_SECRET=of-a-test"}
}

// portfolioFlag is the option that names the caller's default portfolio.
func (s service) portfolioFlag(ctx context.Context, t *testing.T) string {
	t.Helper()
	mine, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return "--portfolio=" + mine.GetPortfolio().GetId()
}

// The command stores what TakeSnapshot with a range stores, in the name of the service, and goes on where an
// interrupted one ended.
func TestTheBackfillCommandStoresPastHoursAsTheService(t *testing.T) {
	t.Parallel()
	s := start(t)
	auth, token := serveAuth(t, s.issuer)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(700)
	args := []string{"backfill", s.portfolioFlag(ctx, t), "--start=" + from.Format(time.RFC3339),
		"--end=" + until.Format(time.RFC3339)}

	s.wallet.history.fail = func(hour time.Time) error {
		if hour.Sub(from) > 600*time.Hour {
			return status.Error(codes.Unavailable, "the node is away")
		}
		return nil
	}
	out, err := s.command(t.Context(), t, args, account(auth)...)
	if err == nil || !strings.Contains(err.Error(), "what was stored stays") {
		t.Fatalf("interrupted: %q, %v", out, err)
	}
	s.wallet.history.fail = nil
	before := len(s.snapshotLines(ctx, t))
	if before == 0 || before >= 700 {
		t.Fatalf("%d snapshots are left of an interrupted one: %v", before, err)
	}
	out, err = s.command(t.Context(), t, args, account(auth)...)
	if err != nil || !strings.HasPrefix(lastLine(out), "hours: 700 of 700 done, ") {
		t.Fatalf("%q, %v", out, err)
	}
	lines := s.snapshotLines(ctx, t)
	if len(lines) != 700 || s.wallet.lastToken() != token {
		t.Errorf("%d snapshots; the service's own account called: %v", len(lines), s.wallet.lastToken() == token)
	}
	other, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	if _, _, err := s.backfill(other, from, until); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(lines, s.snapshotLines(other, t)) {
		t.Error("the command stored other snapshots than TakeSnapshot")
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestABackfillCommandThatCantStartSaysWhy(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	id := s.portfolioFlag(ctx, t)
	for wrong, args := range map[string][]string{
		"--start: must be given":          {id},
		"--start: must be an RFC":         {id, "--start=yesterday"},
		"must be before":                  {id, "--start=2026-01-02T00:00:00Z", "--end=2026-01-01T00:00:00Z"},
		"--portfolio: must be a":          {"--portfolio=x", "--start=2026-01-02T00:00:00Z"},
		"not found":                       {"--portfolio=" + uuid.NewString(), "--start=2026-01-02T00:00:00Z"},
		"PURSER_SERVICE_ID":               {id, "--start=2026-01-02T00:00:00Z"},
		process.ErrUnknownCommand.Error(): {id, "--start=2026-01-02T00:00:00Z", "now"},
	} {
		settings := []string{}
		if wrong == "must be before" {
			auth, _ := serveAuth(t, s.issuer)
			settings = account(auth)
		}
		_, err := s.command(t.Context(), t, append([]string{"backfill"}, args...), settings...)
		if err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%v: %v, want one with %q", args, err, wrong)
		}
	}
}

func TestTheChartCommandDrawsAndLosesNoExtreme(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	id := s.portfolioFlag(ctx, t)
	if out, err := s.command(t.Context(), t, []string{"chart", id}); err != nil || !strings.Contains(out,
		"no snapshots") {
		t.Fatalf("%q, %v", out, err)
	}
	from, until := pastHours(700)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	for total, hour := range map[string]int{"9876543210000.21": 300, "0.5": 400} {
		s.exec(t, "UPDATE snapshots SET price_gap = false, total = "+total+" WHERE bucket = '"+
			from.Add(time.Duration(hour)*time.Hour).Format(time.RFC3339)+"'")
	}
	out, err := s.command(t.Context(), t, []string{"chart", id, "--start=" + from.Format(time.RFC3339)})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Highest  9,876,543,210,000.21, between ", "Lowest   0.50, between ",
		"700 hours have a", from.Format(time.DateOnly)} {
		if !strings.Contains(out, want) {
			t.Errorf("%q isn't in\n%s", want, out)
		}
	}
	if _, err := s.command(t.Context(), t, []string{"chart", "--portfolio=x"}); err == nil ||
		!strings.Contains(err.Error(), "--portfolio") {
		t.Error(err)
	}
}

func TestThePartitionsAreListed(t *testing.T) {
	t.Parallel()
	s := dependencies(t)
	out, err := s.command(t.Context(), t, []string{"partitions"})
	month := time.Now().UTC().Format("2006-01")
	for _, want := range []string{"PARTITION", "hour_prices_" + strings.ReplaceAll(month, "-", ""), month,
		"default", "hour_prices is made until the end of "} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s\n%v", want, out, err)
		}
	}
	if _, err := s.command(t.Context(), t, []string{"partitions", "x"}); !errors.Is(err, process.ErrUnknownCommand) {
		t.Errorf("an argument is taken: %v", err)
	}
}

// The command puts what is under the key before under the new one, and fails where a secret is under neither.
func TestTheSecretsOfWebhooksAreRewrappedByCommand(t *testing.T) {
	a, _, _, ctx, _, r := alerting(t)
	_, err := a.alerts.CreateWebhookEndpoint(ctx, &portfoliov1.CreateWebhookEndpointRequest{Url: r.URL})
	if err != nil {
		t.Fatal(err)
	}
	key := func(letter string) string {
		return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32)))
	}
	for _, tc := range []struct {
		settings    []string
		out, reason string
	}{
		{nil, "", "WEBHOOKS_NOT_CONFIGURED"},
		{[]string{"PURSER_WEBHOOKS_KEK=" + key("n")}, "the secrets of 0 webhook endpoints", "KEK_WRONG"},
		{[]string{"PURSER_WEBHOOKS_KEK=" + key("n"), "PURSER_WEBHOOKS_KEK_PREVIOUS=" + key("k")},
			"put under PURSER_WEBHOOKS_KEK: the secrets of", ""},
		{[]string{"PURSER_WEBHOOKS_KEK=" + key("n")}, "the secrets of 0 webhook endpoints", ""},
	} {
		out, err := a.command(t.Context(), t, []string{"webhooks", "rewrap"}, tc.settings...)
		reason := ""
		if e := errs.As(err); e != nil {
			reason = e.Reason
		}
		if !strings.Contains(out, tc.out) || reason != tc.reason || (err == nil) != (tc.reason == "") {
			t.Errorf("with %d keys: %q, %v", len(tc.settings), out, err)
		}
	}
}
