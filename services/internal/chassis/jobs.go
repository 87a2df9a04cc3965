package chassis

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/jobs"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
)

// jobRunRetention is how long ended runs of jobs stay listed.
const jobRunRetention = 30 * 24 * time.Hour

// Job is a scheduled job of a service.
type Job struct {
	jobs.Job
	// CronSetting is the environment variable that sets the job's schedule, named
	// in errors; "" if none does.
	CronSetting string
}

// Jobs are a service's scheduled jobs.
type Jobs struct {
	runner *jobs.Runner
	log    *slog.Logger
}

// AddJobs adds jobs that run while the service serves, and one that prunes the
// list of their runs.
func (b *Builder) AddJobs(all ...Job) (*Jobs, error) {
	runner := jobs.New(b.DB, jobs.Options{Log: b.Log})
	for _, j := range append(all, Job{Job: runner.Pruning("@daily", jobRunRetention)}) {
		if err := runner.Add(j.Job); err != nil {
			if j.CronSetting != "" {
				err = fmt.Errorf("%s: %w", j.CronSetting, err)
			}
			return nil, err
		}
	}
	b.Loop("jobs", func(ctx context.Context) error { return runner.Serve(ctx, b.cfg.Shutdown.Drain) })
	return &Jobs{runner: runner, log: b.Log}, nil
}

// TriggerChecks are made when a caller triggers a job; the error of one refuses it.
type TriggerChecks struct {
	// Before is called first, outside a transaction; nil skips it.
	Before func(ctx context.Context) error
	// InTx is called in the transaction that triggers the job; nil skips it.
	InTx func(tx *gorm.DB, job string) error
}

// Register serves purser.jobs.v1.JobService on a server. It logs who triggered a
// job.
func (j *Jobs) Register(server grpc.ServiceRegistrar, checks TriggerChecks) {
	jobsv1.RegisterJobServiceServer(server, &jobServer{runner: j.runner, checks: checks, log: j.log})
}

// CheckCron returns the error of a schedule, with the variable that sets it; nil if
// the schedule is valid.
func CheckCron(variable, schedule string) error {
	if err := jobs.CheckCron(schedule); err != nil {
		return fmt.Errorf("%s: %w", variable, err)
	}
	return nil
}
