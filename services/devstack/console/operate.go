package console

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// shownRuns limits the job runs shown of each service.
const shownRuns = 8

// keyRing is the data of the section "keys".
type keyRing struct {
	Epoch int64
	Next  time.Time
	Keys  []key
}

type key struct {
	ID, Algorithm, State          string
	Published, Activated, Retired time.Time
}

func (s *services) keys(ctx context.Context) (any, error) {
	resp, err := authv1.NewAdminServiceClient(s.auth).ListSigningKeys(ctx, &authv1.ListSigningKeysRequest{})
	if err != nil {
		return nil, err
	}
	r := keyRing{Epoch: resp.GetEpoch(), Next: moment(resp.GetNextStepTime())}
	for _, k := range resp.GetKeys() {
		r.Keys = append(r.Keys, key{
			ID: k.GetKid(), Algorithm: k.GetAlgorithm(),
			State:     strings.ToLower(strings.TrimPrefix(k.GetState().String(), "SIGNING_KEY_STATE_")),
			Published: moment(k.GetPublishTime()), Activated: moment(k.GetActivateTime()),
			Retired: moment(k.GetRetireTime()),
		})
	}
	return r, nil
}

// run of a job.
type run struct {
	Job, State, Error string
	Due               time.Time
	Shard, Attempt    int32
	Manual            bool
	Took              time.Duration
	Ran               bool
}

// jobRun is a JobRun of any of the services.
type jobRun interface {
	GetJob() string
	GetState() string
	GetError() string
	GetScheduleTime() *timestamppb.Timestamp
	GetShard() int32
	GetAttempt() int32
	GetManual() bool
	GetDuration() *durationpb.Duration
}

// runsOf asks a service for the last runs of its jobs.
func runsOf[Req any, R jobRun, Resp interface{ GetRuns() []R }](
	list func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		resp, err := list(ctx, req)
		if err != nil {
			return nil, err
		}
		runs := []run{}
		for _, r := range resp.GetRuns() {
			runs = append(runs, run{
				Job: r.GetJob(), State: r.GetState(), Error: r.GetError(), Due: moment(r.GetScheduleTime()),
				Shard: r.GetShard(), Attempt: r.GetAttempt(), Manual: r.GetManual(),
				Took: r.GetDuration().AsDuration(), Ran: r.GetDuration().AsDuration() > 0,
			})
		}
		return runs, nil
	}
}
