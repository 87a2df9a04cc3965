package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/timerange"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

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
	times, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	if err != nil {
		return nil, err
	}
	if err := times.Check(timerange.Rules{}); err != nil {
		return nil, err
	}
	f.From, f.Until = times.Start, times.End
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
	onPage, next, err := page.Cut(query, list, limit, func(e audit.RecordedEvent) uuid.UUID { return e.ID },
		auditEvent)
	if err != nil {
		return nil, err
	}
	return &authv1.ListAuditEventsResponse{Events: onPage, NextPageToken: next}, nil
}

// selection is what requests for events select by.
type selection interface {
	GetSubjectId() string
	GetActorId() string
	GetType() string
	GetOutcome() authv1.AuditOutcome
}

func auditFilter(req selection) (audit.Filter, error) {
	f := audit.Filter{Type: audit.Type(req.GetType())}
	for _, id := range []struct {
		name, from string
		to         *uuid.UUID
	}{{"subject_id", req.GetSubjectId(), &f.Subject}, {"actor_id", req.GetActorId(), &f.Actor}} {
		if id.from == "" {
			continue
		}
		var err error
		if *id.to, err = uuid.Parse(id.from); err != nil {
			return f, errs.Invalid(id.name, "must be a UUID")
		}
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
		EventId: e.ID.String(), EventTime: timestamppb.New(e.At), Type: string(e.Type),
		Outcome: authv1.AuditOutcome_AUDIT_OUTCOME_OK,
		Reason:  e.Reason, ActorId: idText(e.Actor), SubjectId: idText(e.Subject), ObjectId: e.Object,
		IpAddress: e.Client.IPAddress, UserAgent: e.Client.UserAgent, SealNumber: e.Seal,
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
