package revocation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/revocation"
)

// table is the database's table, whose rows a test commits when it wants.
type table struct {
	mu          sync.Mutex
	rows        []revocation.Entry
	epoch       int64
	unavailable error
	read        int // rows that were returned
}

func (s *table) Revocations(_ context.Context, _ string, window, keys time.Duration) (revocation.Reading, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := revocation.Reading{Epoch: s.epoch}
	for _, e := range s.rows {
		age := window
		if e.Kind == authn.RevokedKey {
			age = keys
		}
		if time.Since(e.At) < age {
			r.Entries = append(r.Entries, e)
		}
	}
	s.read += len(r.Entries)
	return r, s.unavailable
}

func (s *table) revoke(kind string, at time.Time) string {
	id := uuid.NewString()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = append(s.rows, revocation.Entry{Kind: kind, Subject: id, At: at})
	return id
}

func (s *table) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// heard counts what a reader was told, by subject.
type heard struct {
	mu sync.Mutex
	of map[string]int
}

func (h *heard) times(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.of[id]
}

func policy() revocation.Policy {
	return revocation.Policy{Poll: 500 * time.Millisecond, StreamsPerAddress: 1, TokenTTL: 15 * time.Minute,
		Skew: 30 * time.Second}
}

// world runs a feed and a reader that is told everything, on a made-up clock.
func world(t *testing.T, s *table, body func(t *testing.T, f *revocation.Feed, received *heard)) {
	synctest.Test(t, func(t *testing.T) {
		f := revocation.NewFeed("issuer", policy(), s, func() {}, slog.New(slog.DiscardHandler))
		ctx, stop := context.WithCancel(t.Context())
		received := &heard{of: map[string]int{}}
		go func() { _ = f.Run(ctx) }()
		go func() {
			for reader := f.Reader(); ; {
				news, _, err := reader.Next(ctx)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					reader = f.Reader() // as a stream that is taken up again
					<-time.After(time.Second)
				}
				received.mu.Lock()
				for _, r := range news.Revoked {
					received.of[r.Subject]++
				}
				received.mu.Unlock()
			}
		}()
		pass(time.Second)
		body(t, f, received)
		stop()
		synctest.Wait()
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestWhatIsCommittedLateIsToldAll(t *testing.T) {
	s := &table{epoch: 1}
	world(t, s, func(t *testing.T, f *revocation.Feed, received *heard) {
		for _, late := range []time.Duration{0, time.Second, 29 * time.Second, 55 * time.Second, 10 * time.Minute} {
			id := s.revoke(authn.RevokedSession, time.Now().Add(-late)) // others were read since
			s.revoke(authn.RevokedSession, time.Now())
			limit := time.Second
			if late > 29*time.Second {
				limit = time.Minute + time.Second
			}
			pass(limit)
			if received.times(id) != 1 {
				t.Errorf("what was committed %s late was told %d times within %s", late, received.times(id), limit)
			}
			if !f.Revoked("", authn.Caller{SessionID: uuid.MustParse(id)}) {
				t.Errorf("what was committed %s late is not refused here", late)
			}
		}
		for id, n := range received.of {
			if n != 1 {
				t.Errorf("%s was told %d times", id, n)
			}
		}
	})
}

func TestWhatWasRevokedWhileTheDatabaseWasAwayIsToldAfterwards(t *testing.T) {
	s := &table{epoch: 1}
	world(t, s, func(t *testing.T, f *revocation.Feed, received *heard) {
		pass(50 * time.Second)
		s.set(func() { s.unavailable = errors.New("unavailable") })
		pass(time.Second)
		id := s.revoke(authn.RevokedUser, time.Now())
		if !f.Fresh() {
			t.Error("a poll that failed is not an outage")
		}
		pass(5 * time.Second)
		if _, _, err := f.Reader().Next(t.Context()); errs.As(err) == nil ||
			errs.As(err).Reason != "REVOCATIONS_UNAVAILABLE" || f.Fresh() {
			t.Errorf("after five seconds readers are told %v", err)
		}
		pass(4 * time.Minute)
		s.set(func() { s.unavailable = nil })
		pass(2 * time.Second)
		if received.times(id) != 1 {
			t.Errorf("it was told %d times", received.times(id))
		}
	})
}

func TestWhatCountsNoMoreIsForgottenAlsoBehindAKeyThatDoes(t *testing.T) {
	s := &table{epoch: 1}
	world(t, s, func(t *testing.T, f *revocation.Feed, _ *heard) {
		kid := s.revoke(authn.RevokedKey, time.Now())
		for range 100 {
			s.revoke(authn.RevokedSession, time.Now())
			pass(time.Second)
		}
		pass(time.Hour)
		news, _, err := f.Reader().Next(t.Context())
		if err != nil || len(news.Revoked) != 1 || news.Revoked[0].Subject != kid || !news.CaughtUp {
			t.Errorf("after an hour %d are told, %v", len(news.Revoked), err)
		}
		s.set(func() { s.read = 0 })
		pass(30 * time.Second)
		if s.read > 100 {
			t.Errorf("%d rows were read in 30 quiet seconds", s.read)
		}
	})
}

func TestAReaderIsToldOfANewEpochAndHearsAHeartbeat(t *testing.T) {
	s := &table{epoch: 1}
	world(t, s, func(t *testing.T, f *revocation.Feed, _ *heard) {
		reader := f.Reader()
		next := func() (int64, time.Duration) {
			begun := time.Now()
			news, _, err := reader.Next(t.Context())
			if err != nil || !news.CaughtUp {
				t.Fatal(news, err)
			}
			return news.Epoch, time.Since(begun)
		}
		if epoch, after := next(); epoch != 1 || after != 0 {
			t.Errorf("the state: epoch %d after %s", epoch, after)
		}
		if epoch, after := next(); epoch != 1 || after != authn.RevocationHeartbeat {
			t.Errorf("the heartbeat: epoch %d after %s", epoch, after)
		}
		s.set(func() { s.epoch = 7 })
		if epoch, after := next(); epoch != 7 || after > policy().Poll {
			t.Errorf("the change: epoch %d after %s", epoch, after)
		}
	})
}

func TestPolicy(t *testing.T) {
	for _, tc := range []struct {
		poll    time.Duration
		streams int
		ok      bool
	}{{500 * time.Millisecond, 1, true}, {0, 1, false}, {time.Hour, 1, false}, {time.Second, 0, false}} {
		p := policy()
		p.Poll, p.StreamsPerAddress = tc.poll, tc.streams
		if err := p.Validate(); (err == nil) != tc.ok {
			t.Error(fmt.Sprint(tc), err)
		}
	}
}
