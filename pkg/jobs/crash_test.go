package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

const patience = time.Minute // a busy machine is no failure

// inProcess has a process of its own claim the job "j" once.
func inProcess(ctx context.Context, databaseURL, clock string, o Options,
	run func(context.Context, *postgres.DB, *Run) error) error {
	db, err := postgres.Open(ctx, postgres.Options{URL: databaseURL})
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	r := New(db, o)
	r.ledger.now = clock
	err = r.Add(Job{Name: "j", Run: func(ctx context.Context, run1 *Run) error { return run(ctx, db, run1) }})
	if err != nil {
		return err
	}
	if err := r.poll(ctx); err != nil {
		return err
	}
	r.runs.Wait()
	return nil
}

func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }

// twoTransactions is a run with an effect in a transaction of its own, and one
// in the transaction that calls Commit.
func twoTransactions(ctx context.Context, db *postgres.DB, run *Run, at func(point string)) error {
	effect := func(tx *gorm.DB, kind string) error {
		return tx.Exec(`INSERT INTO effects VALUES (?, ?, ?, ?)`, kind, run.ScheduledAt, run.Shard, run.Attempt).Error
	}
	at("before both")
	if err := effect(db.Gorm(ctx), "outside"); err != nil {
		return err
	}
	at("between")
	err := postgres.InTx(ctx, db, func(tx *gorm.DB) error {
		if err := run.Commit(tx); err != nil {
			return err
		}
		at("in the second")
		return effect(tx, "inside")
	})
	at("after both")
	return err
}

// crash kills its process at a point of its run.
func crash(ctx context.Context, args []string) error {
	return inProcess(ctx, args[0], "test_now()", Options{},
		func(ctx context.Context, db *postgres.DB, run *Run) error {
			return twoTransactions(ctx, db, run, func(point string) {
				if point == args[1] {
					die()
				}
			})
		})
}

func TestTheEffectHappensOnceWhereverTheProcessIsKilled(t *testing.T) {
	t.Parallel()
	points := []string{"before both", "between", "in the second", "after both"}
	rounds := testkit.Size(1, 5)
	outside := map[string]int64{}
	for range rounds {
		for _, point := range points {
			f := setup(t)
			r := f.runner(Options{}, Job{Name: "j", Run: func(ctx context.Context, run *Run) error {
				return twoTransactions(ctx, f.DB.DB, run, func(string) {})
			}})
			if err := r.Trigger(t.Context(), "j"); err != nil {
				t.Fatal(err)
			}
			if testkit.Spawn(t, "crash", f.URL, point).Wait() == nil {
				t.Fatal("the process lives")
			}
			f.forward(16 * time.Second)
			// The server may see the dead connection, and let the row go, a
			// moment later.
			testkit.Eventually(t, patience, func() bool {
				f.poll(r)
				return f.count(`SELECT count(*) FROM job_runs WHERE state = 'done'`) == 1
			})
			if n := f.count(`SELECT count(*) FROM effects WHERE job = 'inside'`); n != 1 {
				t.Errorf("killed %s: the effect of the transaction with Commit happened %d times", point, n)
			}
			outside[point] += f.count(`SELECT count(*) FROM effects WHERE job = 'outside'`)
		}
	}
	testkit.Figure(t, "%d processes killed at 4 points of a run: the effect beside Commit once", rounds*len(points))
	if outside["between"] != int64(2*rounds) {
		t.Errorf("control: the effect without Commit happened %d times, not twice in each of %d, so the proof shows "+
			"nothing", outside["between"], rounds)
	}
}

// TestTheEffectHappensOnceWhenTheAcknowledgementIsLost cuts the connection
// once the server has the commit.
func TestTheEffectHappensOnceWhenTheAcknowledgementIsLost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	address, err := url.Parse(f.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testkit.Proxy(t, address.Host)
	db, err := postgres.Open(t.Context(), postgres.Options{URL: proxy.Rewrite(f.URL)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rounds := testkit.Size(5, 50)
	var unknown int
	job := func(commit bool) Job {
		return Job{Name: fmt.Sprintf("commit=%t", commit), Backoff: func(int) time.Duration { return 0 },
			Run: func(ctx context.Context, run *Run) error {
				err := postgres.InTx(ctx, db, func(tx *gorm.DB) error {
					if commit {
						if err := run.Commit(tx); err != nil {
							return err
						}
					}
					err := tx.Exec(`INSERT INTO effects VALUES (?, ?, ?, ?)`, run.Job, run.ScheduledAt, run.Shard,
						run.Attempt).Error
					if run.Attempt == 1 { // no more than a byte of the answer to COMMIT arrives
						proxy.ToClient(faultproxy.Fault{CutAfter: 1})
					}
					return err
				})
				proxy.Heal()
				if errors.Is(err, postgres.ErrCommitUnknown) {
					unknown++
				}
				return err
			}}
	}
	var log bytes.Buffer
	r := f.runner(Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, job(true), job(false))
	for range rounds {
		for _, name := range []string{"commit=true", "commit=false"} {
			if err := r.Trigger(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			f.poll(r)
		}
	}
	if unknown != 2*rounds {
		t.Fatalf("%d commits unacknowledged, want %d", unknown, 2*rounds)
	}
	if n := f.count(`SELECT count(*) FROM effects WHERE job = 'commit=true'`); n != int64(rounds) {
		t.Errorf("%d effects of %d runs", n, rounds)
	}
	if n := f.count(`SELECT count(*) FROM job_runs WHERE state = 'done'`); n != int64(2*rounds) {
		t.Errorf("%d runs done, want %d", n, 2*rounds)
	}
	if n := strings.Count(log.String(), "job run done"); n != 2*rounds {
		t.Errorf("%d runs told as done, want %d:\n%s", n, 2*rounds, log.String())
	}
	testkit.Figure(t, "%d commits whose acknowledgement was lost: the effect once each", rounds)
	if n := f.count(`SELECT count(*) FROM effects WHERE job = 'commit=false'`); n != int64(2*rounds) {
		t.Errorf("control: %d effects without Commit of %d runs, not twice each, so the proof shows nothing", n,
			rounds)
	}
}

const killLease = time.Second

// hang claims the job and says so, and doesn't end.
func hang(ctx context.Context, args []string) error {
	client, err := redisx.New(redisx.Options{URL: args[1], Timeout: patience})
	if err != nil {
		return err
	}
	locker := lock.New(client, lock.Options{Prefix: "purser:test", Budget: patience})
	return inProcess(ctx, args[0], "clock_timestamp()", Options{Lease: killLease, Locker: locker},
		func(context.Context, *postgres.DB, *Run) error {
			fmt.Println("running")
			select {}
		})
}

func TestARunWhoseProcessIsKilledIsClaimedAgainWithinALeaseAndASecond(t *testing.T) {
	var took []time.Duration
	rounds := testkit.Size(2, 15)
	for i := range rounds {
		f := setup(t)
		s := testkit.Redis(t)
		claimed := make(chan time.Time, 1)
		r := New(f.DB.DB, Options{Lease: killLease, Locker: newLocker(t, s)})
		if err := r.Add(Job{Name: "j", Run: func(context.Context,
			*Run) error {
			claimed <- time.Now()
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		f.poll(r)
		if err := r.Trigger(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		child := testkit.Spawn(t, "hang", f.URL, s.URL())
		if line := child.Line(patience); line != "running" {
			t.Fatal(line)
		}
		killed := time.Now()
		child.Kill()
		<-time.After(r.o.PollInterval * time.Duration(i) / time.Duration(rounds)) // polls fall anywhere
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case at := <-claimed:
			took = append(took, at.Sub(killed))
		case <-time.After(patience):
			t.Error("never claimed again")
		}
		f.shutdown(r)
		if n := f.count(`SELECT crashes FROM job_runs`); n != 1 {
			t.Errorf("%d crashes counted", n)
		}
	}
	slices.Sort(took)
	if worst := took[len(took)-1]; worst > killLease+time.Second {
		t.Errorf("claimed again after %s", worst)
	}
	testkit.Figure(t, "%d processes killed mid-run, lease %s: claimed again after %s at most, %s in the middle",
		len(took), killLease, took[len(took)-1].Round(time.Millisecond), took[len(took)/2].Round(time.Millisecond))
}

// stale claims the job and says so, and when another has had its effect tries
// to have its own.
func stale(ctx context.Context, args []string) error {
	return inProcess(ctx, args[0], "clock_timestamp()", Options{Lease: killLease},
		func(_ context.Context, db *postgres.DB, run *Run) error {
			fmt.Println("running")
			ctx := context.Background() // a process that was paused doesn't know of its loss
			for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
				var n int
				if err := db.Gorm(ctx).Raw(`SELECT count(*) FROM effects WHERE job = 'inside'`).Scan(
					&n).Error; err != nil || n > 0 {
					break
				}
			}
			err := twoTransactions(ctx, db, run, func(string) {})
			fmt.Println("fenced:", errors.Is(err, ErrFenced))
			return err
		})
}

func TestAProcessThatWasPausedPastItsLeaseCannotCommit(t *testing.T) {
	t.Parallel()
	rounds := testkit.Size(1, 10)
	var outside int64
	for range rounds {
		f := setup(t)
		r := New(f.DB.DB, Options{Lease: killLease, PollInterval: 50 * time.Millisecond})
		if err := r.Add(Job{Name: "j", Run: func(ctx context.Context, run *Run) error {
			return twoTransactions(ctx, f.DB.DB, run, func(string) {})
		}}); err != nil {
			t.Fatal(err)
		}
		f.poll(r)
		if err := r.Trigger(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		child := testkit.Spawn(t, "stale", f.URL)
		child.Line(patience)
		child.Pause()
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, patience, func() bool {
			return f.count(
				`SELECT count(*) FROM job_runs WHERE state = 'done'`) == 1
		})
		child.Resume()
		if line := child.Line(patience); line != "fenced: true" {
			t.Error(line)
		}
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
		f.shutdown(r)
		if n := f.count(`SELECT count(*) FROM effects WHERE job = 'inside'`); n != 1 {
			t.Errorf("%d effects", n)
		}
		outside += f.count(`SELECT count(*) FROM effects WHERE job = 'outside'`)
	}
	testkit.Figure(t, "%d processes paused past their lease: none committed", rounds)
	if outside != int64(2*rounds) {
		t.Errorf("control: %d effects without Commit, not two in each of %d, so the proof shows nothing", outside,
			rounds)
	}
}

// TestARunThatKillsItsProcessIsHeldBack has each attempt end as a crash does:
// the lease runs out.
func TestARunThatKillsItsProcessIsHeldBack(t *testing.T) {
	f := setup(t)
	r := f.runner(Options{}, Job{Name: "j", Backoff: func(
		attempt int) time.Duration {
		return time.Duration(attempt) * 10 * time.Minute
	},
		Run: func(context.Context, *Run) error { return nil }})
	if err := r.Trigger(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	claim := func() int {
		if err := r.poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		claimed, err := r.ledger.claimRun(t.Context(), "j", "a replica that will be killed", r.o.Lease)
		if err != nil || len(claimed) == 0 {
			return 0
		}
		return claimed[0].Attempt
	}
	r.slots = make(chan struct{}) // this replica recovers expired leases, but runs nothing itself
	var got []int
	for _, step := range []time.Duration{0, 14 * time.Second, 2 * time.Second, 16 * time.Second, 19 * time.Minute,
		2 * time.Minute, 16 * time.Second, 29 * time.Minute, 2 * time.Minute} {
		f.forward(step)
		got = append(got, claim())
	}
	if want := "[1 0 2 0 0 3 0 0 4]"; fmt.Sprint(got) != want {
		t.Errorf("attempts %v, want %s: at once after the first crash, then after the backoff", got, want)
	}
	records, err := r.Runs(t.Context(), "j", nil, 1)
	if err != nil || records[0].Attempt != 4 || records[0].Crashes != 3 ||
		!strings.Contains(records[0].Error, "lease") {
		t.Errorf("%+v, %v", records, err)
	}
}
