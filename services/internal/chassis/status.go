package chassis

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/process"
	statusv1 "github.com/purserhq/purser/proto/gen/purser/status/v1"
	"github.com/purserhq/purser/services/internal/dependency"
)

// DependsOn has a dependency of the service watched and shown by
// purser.status.v1.StatusService.
func (b *Builder) DependsOn(c dependency.Check) { b.watcher.Add(c) }

// statusServer serves purser.status.v1.StatusService.
type statusServer struct {
	statusv1.UnimplementedStatusServiceServer
	service string
	started time.Time
	watcher *dependency.Watcher
}

// GetStatus implements the RPC.
func (s *statusServer) GetStatus(context.Context, *statusv1.GetStatusRequest) (*statusv1.GetStatusResponse, error) {
	resp := &statusv1.GetStatusResponse{
		Service: s.service, Version: process.Version(), StartTime: timestamppb.New(s.started),
	}
	for _, r := range s.watcher.Reports() {
		resp.Degraded = resp.GetDegraded() || r.State == dependency.Unreachable
		resp.Dependencies = append(resp.Dependencies, statusDependency(r))
	}
	return resp, nil
}

func statusDependency(r dependency.Report) *statusv1.Dependency {
	d := &statusv1.Dependency{
		Name: r.Name, Address: r.Address, State: dependencyState(r.State), SinceTime: timestamppb.New(r.Since),
		CheckInterval: durationpb.New(r.Interval), Reason: r.Reason, Error: r.Error, Effect: r.Effect,
	}
	if !r.CheckedAt.IsZero() {
		d.CheckTime = timestamppb.New(r.CheckedAt)
		d.LastLatency, d.MedianLatency, d.MaxLatency =
			durationpb.New(r.Last), durationpb.New(r.Median), durationpb.New(r.Max)
	}
	return d
}

func dependencyState(s dependency.State) statusv1.DependencyState {
	switch s {
	case dependency.Unknown:
		return statusv1.DependencyState_DEPENDENCY_STATE_UNKNOWN
	case dependency.Reachable:
		return statusv1.DependencyState_DEPENDENCY_STATE_REACHABLE
	case dependency.Unreachable:
		return statusv1.DependencyState_DEPENDENCY_STATE_UNREACHABLE
	}
	return statusv1.DependencyState_DEPENDENCY_STATE_UNSPECIFIED
}
