package chassis

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/jobs"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
)

// jobServer serves purser.jobs.v1.JobService.
type jobServer struct {
	jobsv1.UnimplementedJobServiceServer
	runner *jobs.Runner
	checks TriggerChecks
	log    *slog.Logger
}

// ListJobRuns implements the RPC.
func (s *jobServer) ListJobRuns(ctx context.Context,
	req *jobsv1.ListJobRunsRequest) (*jobsv1.ListJobRunsResponse, error) {
	caller := authn.CallerFrom(ctx).UserID.String()
	records, next, err := s.runner.Page(ctx, caller, req.GetJob(), req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &jobsv1.ListJobRunsResponse{NextPageToken: next}
	for _, r := range records {
		resp.Runs = append(resp.Runs, jobRun(r))
	}
	return resp, nil
}

// TriggerJob implements the RPC.
func (s *jobServer) TriggerJob(ctx context.Context,
	req *jobsv1.TriggerJobRequest) (*jobsv1.TriggerJobResponse, error) {
	caller := authn.CallerFrom(ctx)
	if err := caller.RequireOperator(); err != nil {
		return nil, err
	}
	if s.checks.Before != nil {
		if err := s.checks.Before(ctx); err != nil {
			return nil, err
		}
	}
	err := s.runner.TriggerInTx(ctx, req.GetJob(), func(tx *gorm.DB) error {
		if s.checks.InTx == nil {
			return nil
		}
		return s.checks.InTx(tx, req.GetJob())
	})
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "job triggered", "job", req.GetJob(), "by", caller.UserID)
	return &jobsv1.TriggerJobResponse{}, nil
}

func jobRun(r jobs.Record) *jobsv1.JobRun {
	run := &jobsv1.JobRun{
		Job: r.Job, ScheduleTime: timestamppb.New(r.ScheduledAt), Shard: int32(r.Shard), State: jobRunState(r.State),
		Manual: r.Manual, Attempt: int32(r.Attempt), StartTime: timestamp(r.StartedAt),
		FinishTime: timestamp(r.FinishedAt), Error: r.Error,
	}
	if r.FinishedAt != nil {
		run.Duration = durationpb.New(r.Duration)
	}
	return run
}

func jobRunState(state string) jobsv1.JobRunState {
	switch state {
	case "due":
		return jobsv1.JobRunState_JOB_RUN_STATE_DUE
	case "running":
		return jobsv1.JobRunState_JOB_RUN_STATE_RUNNING
	case "done":
		return jobsv1.JobRunState_JOB_RUN_STATE_DONE
	case "skipped":
		return jobsv1.JobRunState_JOB_RUN_STATE_SKIPPED
	}
	return jobsv1.JobRunState_JOB_RUN_STATE_UNSPECIFIED
}

// timestamp returns nil for nil.
func timestamp(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}
