package app_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func TestOnlyAnOperatorSeesAndTriggersJobs(t *testing.T) {
	logs := &testkit.LogBuffer{}
	s := replica(t, testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t), servicetest.NoRedis, tokenList, logs)
	now := time.Now()
	as := func(methods []string, at time.Time, permissions ...string) context.Context {
		return s.issuer.As(t, uuid.New(), servicetest.Permissions(permissions...),
			servicetest.SignedIn(at, methods...))
	}
	list := func(ctx context.Context, r *jobsv1.ListJobRunsRequest) (*jobsv1.ListJobRunsResponse, error) {
		return s.jobs.ListJobRuns(ctx, r)
	}
	trigger := func(ctx context.Context, job string) error {
		_, err := s.jobs.TriggerJob(ctx, &jobsv1.TriggerJobRequest{Job: job})
		return err
	}
	for _, tc := range []struct {
		name    string
		ctx     func() context.Context
		lists   string
		trigger string // the reason of a refusal, "" for none
	}{
		{"nobody", t.Context, "TOKEN_MISSING", "TOKEN_MISSING"},
		{"a user", func() context.Context { return s.user(t) }, "PERMISSION_MISSING", "PERMISSION_MISSING"},
		{"who reads everybody's wallets", func() context.Context {
			return s.may(t, "wallet:read", "wallet:any",
				"admin:users")
		}, "PERMISSION_MISSING", "PERMISSION_MISSING"},
		{"an admin's API key", func() context.Context { return as([]string{authn.MethodAPIKey}, now, "admin:system") },
			"", "API_KEY_CALLER"},
		{"an admin who signed in long ago", func() context.Context {
			return as([]string{"pwd"},
				now.Add(-11*time.Minute), "admin:system")
		}, "", "REAUTHENTICATION_REQUIRED"},
		{"an admin", func() context.Context { return as([]string{"pwd"}, now, "admin:system") }, "", ""},
		{"a service account", func() context.Context {
			return as([]string{authn.MethodService}, now.Add(-time.Hour),
				"admin:system")
		}, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			check := func(what string, err error, want string) {
				t.Helper()
				if e := errs.As(err); want == "" && err != nil || want != "" && (e == nil || e.Reason != want) {
					t.Errorf("%s: %v, want %q", what, err, want)
				}
			}
			_, err := list(tc.ctx(), &jobsv1.ListJobRunsRequest{})
			check("ListJobRuns", err, tc.lists)
			check("TriggerJob", trigger(tc.ctx(), "prune_job_runs"), tc.trigger)
		})
	}
	admin := as([]string{"pwd"}, now, "admin:system")
	servicetest.WantError(t, trigger(admin, "sync_walletsx"), errs.KindNotFound, "NOT_FOUND")
	servicetest.WantError(t, trigger(admin, ""), errs.KindInvalid, "INVALID_ARGUMENT")
	logged := logs.String()
	if !strings.Contains(logged, `msg="job triggered"`) || !strings.Contains(logged, "job=prune_job_runs") {
		t.Error("nothing says who triggered what")
	}
	first, err := list(admin, &jobsv1.ListJobRunsRequest{PageSize: 1})
	if err != nil || len(first.GetRuns()) != 1 || first.GetNextPageToken() == "" {
		t.Fatal(first, err)
	}
	next, err := list(admin, &jobsv1.ListJobRunsRequest{PageSize: 1, PageToken: first.GetNextPageToken()})
	if err != nil || len(next.GetRuns()) != 1 ||
		next.GetRuns()[0].GetScheduleTime().AsTime().Equal(first.GetRuns()[0].GetScheduleTime().AsTime()) {
		t.Error(next, err)
	}
	_, err = list(as([]string{"pwd"}, now, "admin:system"),
		&jobsv1.ListJobRunsRequest{PageToken: first.GetNextPageToken()})
	servicetest.WantViolation(t, err, "page_token")
	_, err = list(admin, &jobsv1.ListJobRunsRequest{PageSize: 501})
	servicetest.WantViolation(t, err, "page_size")
	_, err = list(admin, &jobsv1.ListJobRunsRequest{Job: strings.Repeat("x", 129)})
	servicetest.WantViolation(t, err, "job")
}

// The job runs without a node's answer too: it says what became of each wallet.
func TestTheSyncJobSaysOfEachWalletWhyItFailed(t *testing.T) {
	s := start(t)
	ctx := s.user(t)
	s.create(ctx, t, account)                                     // on chain 1, without a node
	s.create(ctx, t, strings.Replace(account, ":1:", ":137:", 1)) // whose node is down
	admin := s.issuer.As(t, uuid.New(), servicetest.Permissions("admin:system"),
		servicetest.SignedIn(time.Now(), "pwd"))
	if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "sync_wallets"}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		for _, chain := range []string{"1", "137"} {
			var state string
			row := s.db.SQL().QueryRowContext(t.Context(),
				"SELECT sync_state FROM wallets WHERE split_part(account, ':', 2) = $1", chain)
			if row.Scan(&state) != nil || state != "FAILED" {
				return false
			}
		}
		return true
	})
	list, err := s.wallets.ListWallets(ctx, &walletv1.ListWalletsRequest{})
	if err != nil || len(list.GetWallets()) != 2 {
		t.Fatal(list, err)
	}
	for i, text := range []string{"no node is configured for chain eip155:1",
		"no node of chain eip155:137 can be read: node 1 refuses the connection"} {
		if got := list.GetWallets()[i].GetSync(); got.GetError() != text || got.GetRetryTime() == nil {
			t.Errorf("wallet %d says %v, want %q", i, got, text)
		}
	}
}
