package app_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// operator returns a context for calls of a user who may trigger jobs, unless other
// claims change that.
func (s service) operator(t *testing.T, user uuid.UUID, claims ...servicetest.Claim) context.Context {
	t.Helper()
	return s.issuer.As(t, user, append([]servicetest.Claim{
		servicetest.Permissions("admin:system"), servicetest.SignedIn(time.Now(), "pwd"),
	}, claims...)...)
}

func TestWhoTriggersAJobIsLoggedAndItsRunListed(t *testing.T) {
	t.Parallel()
	logs := &testkit.LogBuffer{}
	s := start(t).replica(t, servicetest.NoRedis, logs) // has no service account
	root := uuid.New()
	admin := s.operator(t, root)
	if runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{}); err != nil ||
		len(runs.GetRuns()) > 0 {
		t.Fatalf("before the first: %v, %v", runs, err)
	}
	if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "prune_job_runs"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"take_snapshots", "no such job", "x\x00"} {
		_, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: name})
		servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
	}
	var run *jobsv1.JobRun
	testkit.Eventually(t, time.Minute, func() bool {
		runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: "prune_job_runs"})
		if err != nil {
			t.Fatal(err)
		}
		run = runs.GetRuns()[0]
		return run.GetState() == jobsv1.JobRunState_JOB_RUN_STATE_DONE
	})
	if !run.GetManual() || run.GetAttempt() != 1 || run.GetStartTime() == nil || run.GetFinishTime() == nil ||
		run.GetDuration() == nil || run.GetError() != "" {
		t.Errorf("%v", run)
	}
	if text := logs.String(); strings.Count(text,
		`msg="job triggered" job=prune_job_runs by=`+root.String()) != 1 || strings.Count(text, "job triggered") != 1 {
		t.Errorf("logged\n%s", text)
	}
}

func TestAFailedRunHasItsErrorAndIsDueAgain(t *testing.T) {
	t.Parallel()
	s := start(t).replica(t, servicetest.NoRedis, io.Discard,
		"PURSER_AUTH_ADDR=127.0.0.1:1", "PURSER_AUTH_PLAINTEXT=true", "PURSER_SERVICE_ID=portfolio",
		"PURSER_SERVICE_SECRET=of-a-test")
	ctx, _ := s.newUser(t, "portfolio:read")
	if _, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{}); err != nil {
		t.Fatal(err)
	}
	admin := s.operator(t, uuid.New())
	// Without auth nobody knows whether they still may.
	_, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "take_snapshots"})
	servicetest.WantError(t, err, errs.KindUnavailable, "AUTH_UNAVAILABLE")
	s.exec(t, `INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, manual)
		SELECT 'take_snapshots', now(), shard, 4, now(), true FROM generate_series(0, 3) AS shard`)
	testkit.Eventually(t, time.Minute, func() bool {
		runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: "take_snapshots"})
		if err != nil || len(runs.GetRuns()) < 4 { // a shard each, and maybe those of a tick
			t.Fatal(runs, err)
		}
		for _, r := range runs.GetRuns() {
			if r.GetState() == jobsv1.JobRunState_JOB_RUN_STATE_DUE && r.GetAttempt() > 0 &&
				strings.Contains(r.GetError(), "AUTH_UNAVAILABLE") {
				return true
			}
		}
		return false
	})
}

func TestAPageOfRunsIsOfOneCallersQuery(t *testing.T) {
	t.Parallel()
	s := start(t)
	admin, other := s.operator(t, uuid.New()), s.operator(t, uuid.New())
	s.exec(t, `INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, state)
		SELECT 'job', timestamptz '2026-01-01Z' + n * interval '1 hour', 0, 1, now(), 'done'
		FROM generate_series(1, 5) AS n`)
	page := func(ctx context.Context, r *jobsv1.ListJobRunsRequest) (*jobsv1.ListJobRunsResponse, error) {
		return s.jobs.ListJobRuns(ctx, r)
	}
	first, err := page(admin, &jobsv1.ListJobRunsRequest{Job: "job", PageSize: 3})
	if err != nil || len(first.GetRuns()) != 3 || first.GetRuns()[0].GetScheduleTime().AsTime().Hour() != 5 {
		t.Fatal(first, err)
	}
	rest, err := page(admin, &jobsv1.ListJobRunsRequest{Job: "job", PageSize: 3,
		PageToken: first.GetNextPageToken()})
	if err != nil || len(rest.GetRuns()) != 2 || rest.GetNextPageToken() != "" {
		t.Fatal(rest, err)
	}
	for name, err := range map[string]error{
		"another caller": errorOf(page(other, &jobsv1.ListJobRunsRequest{Job: "job",
			PageToken: first.GetNextPageToken()})),
		"another query": errorOf(page(admin, &jobsv1.ListJobRunsRequest{PageToken: first.GetNextPageToken()})),
		"no token":      errorOf(page(admin, &jobsv1.ListJobRunsRequest{PageToken: "x"})),
		"a huge page":   errorOf(page(admin, &jobsv1.ListJobRunsRequest{PageSize: 501})),
	} {
		t.Run(name, func(t *testing.T) { servicetest.WantError(t, err, errs.KindInvalid, "INVALID_ARGUMENT") })
	}
}

func errorOf[T any](_ T, err error) error { return err }

func TestJobsAreForOperatorsAlone(t *testing.T) {
	t.Parallel()
	s := start(t)
	trigger := func(claim servicetest.Claim) error {
		_, err := s.jobs.TriggerJob(s.operator(t, uuid.New(), claim),
			&jobsv1.TriggerJobRequest{Job: "prune_job_runs"})
		return err
	}
	for name, tc := range map[string]struct {
		claim  servicetest.Claim
		reason string
	}{
		"no permission": {servicetest.Permissions("portfolio:write"), "PERMISSION_MISSING"},
		"an API key":    {servicetest.SignedIn(time.Now(), authn.MethodAPIKey), "API_KEY_CALLER"},
		"an old sign-in": {servicetest.SignedIn(time.Now().Add(-authn.MaxSignInAge-time.Minute), "pwd"),
			"REAUTHENTICATION_REQUIRED"},
	} {
		t.Run(name, func(t *testing.T) {
			servicetest.WantError(t, trigger(tc.claim), errs.KindPermissionDenied,
				tc.reason)
		})
	}
	if err := trigger(servicetest.SignedIn(time.Now(), authn.MethodService)); err != nil {
		t.Errorf("a service account: %v", err)
	}
}
