package rpc

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/page"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Jobs is what can be seen and asked of the service's jobs; *jobs.Runner is one.
type Jobs interface {
	Page(ctx context.Context, caller, job string, size int32, token string) ([]jobs.Record, string, error)
	Trigger(ctx context.Context, name string) error
}

// Page sizes of ListAuditEvents, by the contract.
const (
	defaultRecords = 100
	maxRecords     = 500
)

// ListAuditEvents implements the RPC.
func (s *AdminServer) ListAuditEvents(ctx context.Context,
	req *authv1.ListAuditEventsRequest) (*authv1.ListAuditEventsResponse, error) {
	f, err := auditFilter(req)
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListAuditEvents", authn.CallerFrom(ctx).UserID.String(), f.Subject.String(),
		f.Actor.String(),
		string(f.Type), string(f.Outcome), f.From.String(), f.Until.String())
	if f.Before, _, err = page.Parse[uuid.UUID](query, req.GetPageToken()); err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultRecords, maxRecords)
	f.Limit = limit + 1
	list, err := s.events.List(ctx, f)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ListAuditEventsResponse{}
	if len(list) > limit {
		list = list[:limit]
		if resp.NextPageToken, err = page.Token(query, list[limit-1].ID); err != nil {
			return nil, err
		}
	}
	for _, e := range list {
		resp.Events = append(resp.Events, auditEvent(e))
	}
	return resp, nil
}

func auditFilter(req *authv1.ListAuditEventsRequest) (audit.Filter, error) {
	f := audit.Filter{Type: audit.Type(req.GetType())}
	for _, id := range []struct {
		name, from string
		to         *uuid.UUID
	}{{"subject", req.GetSubject(), &f.Subject}, {"actor", req.GetActor(), &f.Actor}} {
		if id.from == "" {
			continue
		}
		var err error
		if *id.to, err = uuid.Parse(id.from); err != nil {
			return f, errs.Invalid(id.name, "must be a UUID")
		}
	}
	for _, at := range []struct {
		name string
		from *timestamppb.Timestamp
		to   *time.Time
	}{{"start_time", req.GetStartTime(), &f.From}, {"end_time", req.GetEndTime(), &f.Until}} {
		if at.from == nil {
			continue
		}
		if at.from.CheckValid() != nil {
			return f, errs.Invalid(at.name, "must be a time from the year 1 to 9999")
		}
		*at.to = at.from.AsTime()
	}
	switch req.GetOutcome() {
	case authv1.AuditOutcome_AUDIT_OUTCOME_OK:
		f.Outcome = audit.OK
	case authv1.AuditOutcome_AUDIT_OUTCOME_REFUSED:
		f.Outcome = audit.Refused
	}
	return f, nil
}

func auditEvent(e audit.RecordedEvent) *authv1.AuditEvent {
	p := &authv1.AuditEvent{
		EventId: e.ID.String(), Time: timestamppb.New(e.At), Type: string(e.Type),
		Outcome: authv1.AuditOutcome_AUDIT_OUTCOME_OK,
		Reason:  e.Reason, Actor: idText(e.Actor), Subject: idText(e.Subject), Object: e.Object,
		Address: e.Client.Address, Device: e.Client.Device, Seal: e.Seal,
	}
	if e.Outcome == audit.Refused {
		p.Outcome = authv1.AuditOutcome_AUDIT_OUTCOME_REFUSED
	}
	return p
}

// idText is empty for the zero id.
func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

// ListJobRuns implements the RPC.
func (s *AdminServer) ListJobRuns(ctx context.Context, req *authv1.ListJobRunsRequest) (*authv1.ListJobRunsResponse,
	error) {
	runs, next, err := s.jobs.Page(ctx, authn.CallerFrom(ctx).UserID.String(), req.GetJob(), req.GetPageSize(),
		req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &authv1.ListJobRunsResponse{NextPageToken: next}
	for _, r := range runs {
		resp.Runs = append(resp.Runs, jobRun(r))
	}
	return resp, nil
}

func jobRun(r jobs.Record) *authv1.JobRun {
	p := &authv1.JobRun{
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
func (s *AdminServer) TriggerJob(ctx context.Context, req *authv1.TriggerJobRequest) (*authv1.TriggerJobResponse,
	error) {
	caller, err := operator(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.jobs.Trigger(ctx, req.GetJob()); err != nil {
		return nil, err
	}
	err = s.recorder.Record(ctx, audit.Event{Type: audit.JobTriggered, Actor: caller.UserID, Object: req.GetJob()})
	if err != nil {
		return nil, err
	}
	return &authv1.TriggerJobResponse{}, nil
}
