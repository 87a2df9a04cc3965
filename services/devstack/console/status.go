package console

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	statusv1 "github.com/purserhq/purser/proto/gen/purser/status/v1"
)

// serviceStatus is the data of the section "status": what a service says of what it depends on.
type serviceStatus struct {
	Version      string
	Started      time.Time
	Dependencies []dependency
}

type dependency struct {
	Name, Address string
	// State is "reachable", "unreachable" or "unknown" before the first check.
	State string
	// Since when it is in that state.
	Since time.Time
	// Reason, Error and Effect of an unreachable one.
	Reason, Error, Effect string
	// Median of the durations of the checks of the last minute.
	Median time.Duration
}

// Unreachable returns the dependencies that are.
func (s serviceStatus) Unreachable() []dependency {
	var found []dependency
	for _, d := range s.Dependencies {
		if d.State == "unreachable" {
			found = append(found, d)
		}
	}
	return found
}

// Unknown is how many dependencies were not checked yet.
func (s serviceStatus) Unknown() int {
	n := 0
	for _, d := range s.Dependencies {
		if d.State == "unknown" {
			n++
		}
	}
	return n
}

// Slowest returns the dependency whose checks take longest; nil before the first check.
func (s serviceStatus) Slowest() *dependency {
	var found *dependency
	for i, d := range s.Dependencies {
		if d.Median > 0 && (found == nil || d.Median > found.Median) {
			found = &s.Dependencies[i]
		}
	}
	return found
}

// status asks a service for its dependencies. The call needs a token, so that it fails as others do when the service
// can't verify one.
func (s *services) status(service string, conn *grpc.ClientConn) *panel {
	client := statusv1.NewStatusServiceClient(conn)
	return s.newPanel(service, func(ctx context.Context) (any, error) {
		token, err := s.operator.Token(ctx)
		if err != nil {
			s.auth.ResetConnectBackoff()
			return nil, tokenError(err, service)
		}
		resp, err := client.GetStatus(grpcclient.WithToken(ctx, token), &statusv1.GetStatusRequest{})
		if err != nil {
			if errs.Is(err, errs.KindUnavailable) {
				conn.ResetConnectBackoff() // the page limits the attempts
			}
			return nil, err
		}
		out := serviceStatus{Version: resp.GetVersion(), Started: moment(resp.GetStartTime())}
		for _, d := range resp.GetDependencies() {
			out.Dependencies = append(out.Dependencies, dependency{
				Name: d.GetName(), Address: d.GetAddress(), Since: moment(d.GetSinceTime()),
				State:  strings.ToLower(strings.TrimPrefix(d.GetState().String(), "DEPENDENCY_STATE_")),
				Reason: d.GetReason(), Error: d.GetError(), Effect: d.GetEffect(),
				Median: d.GetMedianLatency().AsDuration(),
			})
		}
		return out, nil
	})
}

// serviceState is a service as the header shows it.
type serviceState struct {
	Service string
	// Class is "up", "degraded", "down" or "unknown".
	Class string
	// Problems are empty for a service that is up.
	Problems []problem
}

// problem is why a service is not up.
type problem struct {
	// What is unavailable, for example "postgres".
	What string
	// Text says how, for example "unreachable".
	Text string
	// Since when; may be zero.
	Since time.Time
	// Detail is the error and what it means; may be "".
	Detail string
}

// serviceStates derives the states of the services from the calls of the page: a service is up if it says that all it
// depends on is reachable, and its database answers in a call.
func serviceStates(sections map[string][]state) []serviceState {
	var out []serviceState
	for i, status := range sections["status"] {
		var jobs state
		if i < len(sections["jobs"]) {
			jobs = sections["jobs"][i]
		}
		out = append(out, stateOf(serviceName(status, jobs), status, jobs))
	}
	return out
}

// serviceName is that of the panel: its state has that of a service behind it while that one is unavailable.
func serviceName(states ...state) string {
	for _, s := range states {
		if s.Panel != "" {
			return s.Panel
		}
	}
	return ""
}

func stateOf(name string, status, jobs state) serviceState {
	s := serviceState{Service: name, Class: "up"}
	worse := func(class string, p problem) { s.Class, s.Problems = class, append(s.Problems, p) }
	switch {
	case !status.UnavailableSince.IsZero() && status.Service == name:
		worse("down", problem{What: name, Text: "does not answer", Since: status.UnavailableSince})
		return s
	case !status.UnavailableSince.IsZero():
		worse("unknown", problem{What: status.Service, Text: "gives the console no token",
			Since: status.UnavailableSince})
		return s
	case status.Error != "":
		worse("degraded", problem{What: name, Text: status.Error})
	}
	found, _ := status.Data.(serviceStatus)
	for _, d := range found.Dependencies {
		switch d.State {
		case "reachable":
		case "unreachable":
			worse("degraded", problem{What: d.Name, Text: "unreachable", Since: d.Since,
				Detail: strings.TrimSpace(d.Reason + ": " + d.Error)})
		default:
			if s.Class == "up" {
				worse("unknown", problem{What: d.Name, Text: "is being checked"})
			}
		}
	}
	if len(s.Problems) > 0 {
		return s
	}
	switch { // a real call
	case !jobs.UnavailableSince.IsZero():
		worse("degraded", problem{What: jobs.Service, Text: "can't list its job runs", Since: jobs.UnavailableSince})
	case jobs.Error != "":
		worse("degraded", problem{What: name, Text: "can't list its job runs: " + jobs.Error})
	case jobs.DataTime.IsZero():
		worse("unknown", problem{What: name, Text: "has not answered a call yet"})
	}
	return s
}
