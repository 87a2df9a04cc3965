#!/usr/bin/env bash
# Software:  github.com/go-co-op/gocron/v2 v2.21.2
# Expected:  Shutdown may be called twice; the second call returns as soon as the scheduler has stopped, or at once
#            when it has stopped already.
# Observed:  the scheduler delivers the result of a stop to one caller only (stopErrCh, one slot), and clears its
#            flag "started" after that. A second call that still sees the flag set waits until its context ends:
#            always when two calls overlap, and sometimes when the second follows the first. Shutdown without a
#            context then returns ErrStopSchedulerTimedOut after 12 s by default.
# Cause:     scheduler.go, stopScheduler: "s.stopErrCh <- err" comes before "s.started.Store(false)".
# Care:      call Shutdown once (sync.Once), or give it a context that ends soon.
# Output:    overlapping calls: 20 of 20 times the second waited for its context (1s)
#            calls in sequence: 2 of 18450 times the second waited for its context
# Exit code: 0 while overlapping calls behave so; 1 when they don't any more.
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
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-co-op/gocron/v2"
)

const patience = time.Second

// scheduler is started and, when busy, has a run of a job under way.
func scheduler(busy bool) gocron.Scheduler {
	s, err := gocron.NewScheduler()
	if err != nil {
		panic(err)
	}
	begun := make(chan struct{})
	if busy {
		task := gocron.NewTask(func() { close(begun); time.Sleep(50 * time.Millisecond) })
		if _, err := s.NewJob(gocron.OneTimeJob(gocron.OneTimeJobStartImmediately()), task); err != nil {
			panic(err)
		}
	}
	s.Start()
	if busy {
		<-begun
	}
	return s
}

func shutdown(s gocron.Scheduler) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.ShutdownWithContext(ctx)
}

func main() {
	const overlapping = 20
	waited := 0
	for range overlapping {
		s := scheduler(true)
		results := make(chan error, 2)
		for range cap(results) {
			go func() { results <- shutdown(s) }()
		}
		if err := errors.Join(<-results, <-results); errors.Is(err, context.DeadlineExceeded) {
			waited++
		}
	}
	fmt.Printf("overlapping calls: %d of %d times the second waited for its context (%v)\n", waited, overlapping,
		patience)

	tries, late := 0, 0
	for end := time.Now().Add(20 * time.Second); tries < 20_000 && time.Now().Before(end); tries++ {
		s := scheduler(false)
		if err := shutdown(s); err != nil {
			panic(err)
		}
		if err := shutdown(s); errors.Is(err, context.DeadlineExceeded) {
			late++
		}
	}
	fmt.Printf("calls in sequence: %d of %d times the second waited for its context\n", late, tries)
	if waited == 0 {
		fmt.Println("changed: overlapping calls no longer wait")
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
go build -o finding .
timeout 120 ./finding
