package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// numbered returns a valuation of an hour with a membership.
func numbered(t *testing.T, hour, number int, missing [3]int) valuation.Valuation {
	t.Helper()
	v := lacking(t, hour, missing[0], missing[1], missing[2])
	v.Membership = number
	return v
}

// The rule of upsertSnapshots, for each pair of a stored snapshot and a new one.
func TestASnapshotThatIsOutOfDateIsReplacedByAnyOfTheRightWallets(t *testing.T) {
	f := newFixture(t, noRedis)
	kinds := [][3]int{{0, 0, 0}, {0, 0, 1}, {0, 2, 0}, {1, 0, 0}}
	n := 0
	for _, had := range kinds {
		for _, brings := range kinds {
			for _, late := range []bool{false, true} { // the new one is of the old wallets
				for _, ties := range []bool{false, true} {
					p := f.portfoliosOf(t, 1)[0]
					number := n % 2 // with the number that it has, and with another
					if number == 1 {
						f.renew(t, p, "one")
					}
					save := f.SaveBackfilled
					if ties {
						save = f.ReplaceHours
					}
					_, err := f.SaveBackfilled(t.Context(), p, []valuation.Valuation{numbered(t, 0, number, had)})
					if err != nil {
						t.Fatal(err)
					}
					f.renew(t, p, "other")
					brought := number + 1
					if late {
						brought = number
					}
					stored, err := save(t.Context(), p, []valuation.Valuation{numbered(t, 0, brought, brings)})
					if err != nil || (len(stored) == 1) == late {
						t.Errorf("%v after %v, late %v: %v, %v", brings, had, late, stored, err)
					}
					n++
				}
			}
		}
	}
}

// renew gives a default portfolio other wallets.
func (f fixture) renew(t *testing.T, p portfolio.Portfolio, digest string) portfolio.Membership {
	t.Helper()
	s := f.portfolios(t)
	m, err := s.Memberships(t.Context(), p.ID, hour(0), hour(0))
	if err != nil || len(m) != 1 {
		t.Fatal(m, err)
	}
	if m[0].Digest == "" { // which is learned without a new number
		if m[0], err = s.Renew(t.Context(), p, m[0], "first", false); err != nil || m[0].Number != 0 {
			t.Fatal(m, err)
		}
	}
	renewed, err := s.Renew(t.Context(), p, m[0], digest, false)
	if err != nil || renewed.Number <= m[0].Number {
		t.Fatal(renewed, err)
	}
	return renewed
}

// Ties replace complete snapshots, and never by incomplete ones.
func TestWhatIsRecomputedReplacesWhatIsAsGood(t *testing.T) {
	f := newFixture(t, noRedis)
	kinds := [][3]int{{0, 0, 0}, {0, 0, 1}, {0, 2, 0}, {1, 0, 0}} // the better first
	for i, had := range kinds {
		for j, brings := range kinds {
			at := 4*i + j
			if _, err := f.SaveBackfilled(t.Context(), f.p, []valuation.Valuation{lacking(t, at, had[0], had[1],
				had[2])}); err != nil {
				t.Fatal(err)
			}
			stored, err := f.ReplaceHours(t.Context(), f.p, []valuation.Valuation{lacking(t, at, brings[0], brings[1],
				brings[2])})
			if err != nil || (len(stored) == 1) != (j <= i) {
				t.Errorf("%v after %v: %v, %v", brings, had, stored, err)
			}
		}
	}
}

// Two valuations read the wallets at different moments: the one that comes second has no
// number, so that what it has is not called the value of the portfolio's wallets.
func TestOfTwoReadersOfTheWalletsTheSecondHasNoNumber(t *testing.T) {
	f := newFixture(t, noRedis)
	s := f.portfolios(t)
	read, err := s.Memberships(t.Context(), f.p.ID, hour(0), hour(0))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Renew(t.Context(), f.p, read[0], "new", false); err != nil || m.Number != 0 || m.Digest != "new" {
		t.Fatal(m, err)
	}
	m, err := s.Renew(t.Context(), f.p, read[0], "old", false)
	if err != nil || m.Number != portfolio.NoNumber {
		t.Fatal(m, err)
	}
	v := numbered(t, 0, m.Number, [3]int{})
	snap, stored, err := f.Save(t.Context(), f.p, hour(0), v)
	if err != nil || !stored || !snap.OutOfDate || snap.Complete {
		t.Errorf("%+v, %v, %v", snap, stored, err)
	}
	// It is due, and is taken again.
	due, err := s.DueForRecompute(t.Context(), int(f.p.Owner[15])%4, 4, time.Now().Add(time.Minute), 10)
	if err != nil || len(due) != 1 || !due[0].From.Equal(hour(0)) {
		t.Fatal(due, err)
	}
	if got, err := f.OutOfDateHours(t.Context(), f.p.ID, portfolio.Beginning(), hour(9), 10); err != nil ||
		fmt.Sprint(got) != fmt.Sprint([]time.Time{hour(0)}) {
		t.Error(got, err)
	}
	// What changes while it is recomputed stays due.
	other := f.renew(t, f.p, "newer")
	if err := s.Recomputed(t.Context(), due[0], time.Time{}, hour(0)); err != nil || other.Number == 0 {
		t.Fatal(err)
	}
	again, err := s.DueForRecompute(t.Context(), int(f.p.Owner[15])%4, 4, time.Now().Add(time.Minute), 10)
	if err != nil || len(again) != 1 {
		t.Fatal(again, err)
	}
	if err := s.Recomputed(t.Context(), again[0], time.Time{}, hour(0)); err != nil {
		t.Fatal(err)
	}
	rest, err := s.DueForRecompute(t.Context(), int(f.p.Owner[15])%4, 4, time.Now().Add(time.Minute), 10)
	if err != nil || len(rest) != 0 {
		t.Error(rest, err)
	}
}

// Edits of two replicas at once are done one after the other, beside a job that stores
// snapshots and the deletion of the portfolio.
func TestEditsAndSnapshotsAndADeletionAtOnce(t *testing.T) {
	f := newFixture(t, noRedis)
	s := f.portfolios(t)
	p, err := s.Create(t.Context(), portfolio.Portfolio{ID: uuid.New(), Owner: f.p.Owner, Name: "x", Version: 1}, nil,
		hour(0), 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	var ids []uuid.UUID
	for range 16 {
		ids = append(ids, uuid.New())
	}
	replicas := []fixture{f, f.replica(t)}
	err = race(len(ids), func(i int) error {
		_, editErr := f.portfolios(t).Edit(t.Context(), p.Owner, p.ID, hour(i%3), portfolio.Edit{Add: ids[i : i+1]},
			"", nil)
		_, _, saveErr := replicas[i%2].Save(t.Context(), p, hour(i%5), numbered(t, i%5, i, [3]int{}))
		return errors.Join(editErr, saveErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Memberships(t.Context(), p.ID, hour(2), hour(2))
	if err != nil || len(m) != 1 || len(m[0].Wallets) != len(ids) {
		t.Errorf("%+v, %v", m, err)
	}
	err = race(2, func(i int) error {
		if i == 0 {
			_, err := s.Delete(t.Context(), p.Owner, p.ID, "", nil)
			return err
		}
		_, err := f.SaveHour(t.Context(), hour(7), []snapshot.Valued{{Portfolio: p,
			Valuation: numbered(t, 7, 1, [3]int{})}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"snapshots", "position_changes", "memberships"} {
		if n := f.count(t, "SELECT count(*) FROM "+table+" WHERE portfolio_id = $1", p.ID); n != 0 {
			t.Errorf("%d rows of %s are left", n, table)
		}
	}
}
