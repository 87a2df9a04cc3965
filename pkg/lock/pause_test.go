package lock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

// writer is a process that takes the lock of each round, sees that it has it,
// and then writes, if it is told to, first by Fenced. What it is stopped by
// comes between the look and the write, where no look helps.
func writer(ctx context.Context, args []string) error {
	redisURL, databaseURL, fenced := args[0], args[1], args[2] == "fenced"
	rounds, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	ttl, err := time.ParseDuration(args[4])
	if err != nil {
		return err
	}
	c, err := redisx.New(redisx.Options{URL: redisURL, Timeout: patience})
	if err != nil {
		return err
	}
	db, err := postgres.Open(ctx, postgres.Options{URL: databaseURL})
	if err != nil {
		return err
	}
	l := New(c, Options{Prefix: "purser:test", Budget: patience})
	for round := range rounds {
		g, err := l.Acquire(ctx, name(round), ttl)
		if err != nil {
			return err
		}
		if err := g.Context().Err(); err != nil {
			return err
		}
		fmt.Println("holds")
		for c.GetDel(ctx, "go on").Err() != nil { // set while it is stopped
			<-time.After(time.Millisecond)
		}
		err = note(ctx, db, g, round, fenced)
		switch {
		case errors.Is(err, ErrFenced):
			fmt.Println("fenced")
		case err != nil:
			return err
		default:
			fmt.Println("wrote")
		}
		_ = g.Release()
	}
	return nil
}

func name(round int) string { return fmt.Sprint("round ", round) }

func note(ctx context.Context, db *postgres.DB, g *Guard, round int, fenced bool) error {
	return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
		if fenced {
			if err := Fenced(tx, g); err != nil {
				return err
			}
		}
		return tx.Exec(`INSERT INTO notes (round, fence) VALUES (?, ?)`, round, g.Fence()).Error
	})
}

// staleCommits stops a holder in each round for three times its lease, in
// which another takes the lock and writes, and counts the writes that came in
// after one of a greater fence.
func staleCommits(t *testing.T, rounds int, mode string) (stale int) {
	s, db := testkit.Redis(t), fences(t)
	const ttl = 150 * time.Millisecond
	holder := testkit.Spawn(t, "writer", s.URL(), db.URL, mode, fmt.Sprint(rounds), ttl.String())
	l := locker(t, s, Options{})
	for round := range rounds {
		if got := holder.Line(time.Minute); got != "holds" {
			t.Fatal(got)
		}
		holder.Pause()
		begin := time.Now()
		if err := l.client.Set(t.Context(), "go on", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		g, err := l.Acquire(t.Context(), name(round), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if err := note(t.Context(), db.DB, g, round, mode == "fenced"); err != nil {
			t.Fatal(err)
		}
		<-time.After(3*ttl - time.Since(begin))
		holder.Resume()
		holder.Line(time.Minute) // whether it wrote is told by the table
		if err := note(t.Context(), db.DB, g, round, mode == "fenced"); err != nil {
			t.Fatal("the holder may write again:", err)
		}
		if err := g.Release(); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Gorm(t.Context()).Raw(`SELECT count(*) FROM notes n
		WHERE EXISTS (SELECT FROM notes e
		  WHERE e.round = n.round AND e.id < n.id AND e.fence > n.fence)`).Scan(&stale).Error
	if err != nil {
		t.Fatal(err)
	}
	return stale
}

func TestAHolderThatIsStoppedPastItsLeaseCannotWriteAfterItsSuccessor(t *testing.T) {
	t.Parallel()
	stops := testkit.Size(5, 200)
	if n := staleCommits(t, stops, "fenced"); n != 0 {
		t.Fatalf("%d stale commits", n)
	}
	testkit.Figure(t, "0 stale commits of %d processes stopped for three leases", stops)
	t.Run("control: without Fenced it does", func(t *testing.T) {
		stops := testkit.Size(2, 20)
		n := staleCommits(t, stops, "unfenced")
		if n == 0 {
			t.Fatal("there is nothing that Fenced protects from")
		}
		testkit.Figure(t, "control: %d stale commits of %d without Fenced", n, stops)
	})
}
