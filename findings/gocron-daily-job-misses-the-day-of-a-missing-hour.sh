#!/usr/bin/env bash
# Software:  github.com/go-co-op/gocron/v2 v2.21.2 with github.com/robfig/cron/v3 v3.0.1
# Expected:  a job that is scheduled once a day in a zone with summer time runs once a day: on the day on which the
#            clock jumps over its time right after the jump, as the cron of Debian has it, and once on the day on which
#            the clock shows it twice.
# Observed:  on the day on which the clock jumps over its time it does not run at all. That need not be at night: in
#            America/Santiago it is a job at midnight. On the other day it runs once, at the first of the two.
# Cause:     the next run is the next moment at which the wall clock shows the time, whichever day that is.
# Care:      no error and no late run tells of it. Schedule in UTC, or at an hour that no zone of the deployment skips;
#            or have the job find out what is due, rather than believe that it is called each day.
# Output:    02:30 in Europe/Berlin: 2026-03-28T02:30+01:00 2026-03-30T02:30+02:00
#            02:30 in Europe/Berlin: 2026-10-25T02:30+02:00 2026-10-26T02:30+01:00
#            00:00 in America/Santiago: 2026-09-05T00:00-04:00 2026-09-07T00:00-03:00
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require (
	github.com/go-co-op/gocron/v2 v2.21.2
	github.com/jonboulle/clockwork v0.5.0
	github.com/robfig/cron/v3 v3.0.1
)
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"strings"
	"time"
	_ "time/tzdata"

	"github.com/go-co-op/gocron/v2"
	"github.com/jonboulle/clockwork"
)

// next are the next two runs of a job that is scheduled at a time of the day, seen from a moment.
func next(crontab, zone string, from string) string {
	location, err := time.LoadLocation(zone)
	if err != nil {
		panic(err)
	}
	at, err := time.ParseInLocation(time.DateTime, from, location)
	if err != nil {
		panic(err)
	}
	s, err := gocron.NewScheduler(gocron.WithLocation(location), gocron.WithClock(clockwork.NewFakeClockAt(at)))
	if err != nil {
		panic(err)
	}
	defer func() { _ = s.Shutdown() }()
	job, err := s.NewJob(gocron.CronJob(crontab, false), gocron.NewTask(func() {}))
	if err != nil {
		panic(err)
	}
	s.Start()
	runs, err := job.NextRuns(2)
	if err != nil {
		panic(err)
	}
	var out []string
	for _, r := range runs {
		out = append(out, r.In(location).Format("2006-01-02T15:04Z07:00"))
	}
	return strings.Join(out, " ")
}

func main() {
	same := true
	for _, c := range []struct{ crontab, at, zone, from, want string }{
		{"30 2 * * *", "02:30", "Europe/Berlin", "2026-03-28 00:00:00",
			"2026-03-28T02:30+01:00 2026-03-30T02:30+02:00"},
		{"30 2 * * *", "02:30", "Europe/Berlin", "2026-10-25 00:00:00",
			"2026-10-25T02:30+02:00 2026-10-26T02:30+01:00"},
		{"0 0 * * *", "00:00", "America/Santiago", "2026-09-04 12:00:00",
			"2026-09-05T00:00-04:00 2026-09-07T00:00-03:00"},
	} {
		got := next(c.crontab, c.zone, c.from)
		fmt.Printf("%s in %s: %s\n", c.at, c.zone, got)
		same = same && got == c.want
	}
	if !same {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 60 ./finding
