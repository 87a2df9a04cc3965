package rpc

import (
	"context"
	"log/slog"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/jobs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// Jobs is what can be seen and asked of the service's jobs; *jobs.Runner is one.
type Jobs interface {
	Page(ctx context.Context, caller, job string, size int32, token string) ([]jobs.Record, string, error)
	Trigger(ctx context.Context, name string) error
}

// AdminServer serves purser.portfolio.v1.AdminService.
type AdminServer struct {
	portfoliov1.UnimplementedAdminServiceServer
	jobs Jobs
	log  *slog.Logger
}

// NewAdminServer serves the history of jobs, and logs who triggered one.
func NewAdminServer(j Jobs, log *slog.Logger) *AdminServer { return &AdminServer{jobs: j, log: log} }

// ListJobRuns implements the RPC.
func (s *AdminServer) ListJobRuns(ctx context.Context,
	req *portfoliov1.ListJobRunsRequest) (*portfoliov1.ListJobRunsResponse, error) {
	runs, next, err := s.jobs.Page(ctx, authn.CallerFrom(ctx).UserID.String(), req.GetJob(), req.GetPageSize(),
		req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.ListJobRunsResponse{NextPageToken: next}
	for _, r := range runs {
		resp.Runs = append(resp.Runs, jobRun(r))
	}
	return resp, nil
}

func jobRun(r jobs.Record) *portfoliov1.JobRun {
	p := &portfoliov1.JobRun{
		Job: r.Job, ScheduleTime: timestamppb.New(r.ScheduledAt), Shard: int32(r.Shard), State: r.State,
		Manual:  r.Manual,
		Attempt: int32(r.Attempt), Error: r.Error,
	}
	if r.StartedAt != nil {
		p.StartTime = timestamppb.New(*r.StartedAt)
	}
	if r.FinishedAt != nil {
		p.FinishTime, p.Duration = timestamppb.New(*r.FinishedAt), durationpb.New(r.Duration)
	}
	return p
}

// TriggerJob implements the RPC.
func (s *AdminServer) TriggerJob(ctx context.Context,
	req *portfoliov1.TriggerJobRequest) (*portfoliov1.TriggerJobResponse, error) {
	caller := authn.CallerFrom(ctx)
	if err := caller.Operator(); err != nil {
		return nil, err
	}
	if err := s.jobs.Trigger(ctx, req.GetJob()); err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "job triggered", "job", req.GetJob(), "by", caller.UserID)
	return &portfoliov1.TriggerJobResponse{}, nil
}
