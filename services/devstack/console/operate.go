package console

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
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
	r := keyRing{Epoch: resp.GetEpoch(), Next: moment(resp.GetNextChangeTime())}
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

// jobRuns asks a service for the last runs of its jobs.
func jobRuns(conn grpc.ClientConnInterface) func(context.Context) (any, error) {
	client := jobsv1.NewJobServiceClient(conn)
	return func(ctx context.Context) (any, error) {
		resp, err := client.ListJobRuns(ctx, &jobsv1.ListJobRunsRequest{PageSize: shownRuns})
		if err != nil {
			return nil, err
		}
		runs := []run{}
		for _, r := range resp.GetRuns() {
			took := r.GetDuration().AsDuration()
			runs = append(runs, run{
				Job: r.GetJob(), State: jobRunState(r.GetState()), Error: r.GetError(),
				Due:   moment(r.GetScheduleTime()),
				Shard: r.GetShard(), Attempt: r.GetAttempt(), Manual: r.GetManual(), Took: took, Ran: took > 0,
			})
		}
		return runs, nil
	}
}

// jobRunState is the state as the page shows it, for example "done".
func jobRunState(s jobsv1.JobRunState) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "JOB_RUN_STATE_"))
}
