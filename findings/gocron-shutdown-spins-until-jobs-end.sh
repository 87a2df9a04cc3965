#!/usr/bin/env bash
# Software:  github.com/go-co-op/gocron/v2 v2.21.2
# Expected:  Shutdown waits for running jobs without using the processor, as sync.WaitGroup does.
# Observed:  it asks in a loop without a pause whether they have ended, for as long as they run, up to WithStopTimeout
#            (10 s by default): a processor is busy for the whole drain. On a machine with one processor the jobs that
#            are to end share it with the loop.
# Cause:     executor.go, executor.stop: "for time.Now().Before(timeout) && count < 3" around a select with an empty
#            default.
# Care:      end the jobs before Shutdown is called (cancel what they wait for), or keep count of them yourself and
#            call it when none runs.
# Output:    a job that waits for 2s: Shutdown took 2.0s, in which the process used 2.0s of a processor
# Exit code: 0 while Shutdown uses more than half of the time that it waits; 1 when it doesn't any more.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require github.com/go-co-op/gocron/v2 v2.21.2
MOD
cat > main.go <<'GO'
package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/go-co-op/gocron/v2"
)

const jobTakes = 2 * time.Second

// processor is the time that this process has used.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func main() {
	s, err := gocron.NewScheduler()
	if err != nil {
		panic(err)
	}
	begun := make(chan struct{})
	task := gocron.NewTask(func() { close(begun); time.Sleep(jobTakes) })
	if _, err := s.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), task); err != nil {
		panic(err)
	}
	s.Start()
	<-begun
	before, at := processor(), time.Now()
	if err := s.Shutdown(); err != nil {
		panic(err)
	}
	used, took := processor()-before, time.Since(at)
	fmt.Printf("a job that waits for %v: Shutdown took %.1fs, in which the process used %.1fs of a processor\n",
		jobTakes, took.Seconds(), used.Seconds())
	if used < took/2 {
		fmt.Println("changed: Shutdown no longer spins")
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
go build -o finding .
timeout 60 ./finding
