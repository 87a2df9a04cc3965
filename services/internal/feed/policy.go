package feed

import (
	"context"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/jobs"
)

// trimTimeout bounds a run of TrimJob; what is left is for the next one.
const trimTimeout = 10 * time.Minute

// Policy is the configuration of a feed, read from PURSER_CHANGES_*.
type Policy struct {
	// Retention is how long changes are kept: a reader that was away for longer has to start anew.
	Retention time.Duration `env:"RETENTION" envDefault:"168h"`
	// ReaderTimeout is how long a message of a stream may wait for its reader.
	ReaderTimeout time.Duration `env:"READER_TIMEOUT" envDefault:"30s"`
}

// Validate returns an error for an invalid setting.
func (p Policy) Validate() error {
	if p.Retention < time.Minute || p.Retention > 366*24*time.Hour {
		return errors.New("PURSER_CHANGES_RETENTION must be 1m to 8784h")
	}
	if p.ReaderTimeout < time.Second || p.ReaderTimeout > 10*time.Minute {
		return errors.New("PURSER_CHANGES_READER_TIMEOUT must be 1s to 10m")
	}
	return nil
}

// TrimJob is the job that deletes old changes.
func (f *Feed) TrimJob(p Policy) jobs.Job {
	return jobs.Job{Name: "trim_changes", Cron: "23 * * * *", Timeout: trimTimeout, CatchUp: jobs.CatchUpSkip,
		Run: func(ctx context.Context, _ *jobs.Run) error { return f.Trim(ctx, p.Retention) }}
}
