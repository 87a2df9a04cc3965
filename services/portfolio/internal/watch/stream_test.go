package watch

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// world is a portfolio with a value, and what was told of it.
type world struct {
	*Service
	hub  *Hub
	of   portfolio.Portfolio
	fail error
	told []string // the totals of the messages, "" of one without a state

	mu    sync.Mutex
	total int64
	stale bool
	took  time.Duration // to work out a state
}

// with changes w under its lock.
func (w *world) with(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *world) Find(context.Context, uuid.UUID, uuid.UUID) (portfolio.Portfolio, error) {
	return w.of, w.fail
}

func (w *world) ValueAnew(ctx context.Context, _ portfolio.Portfolio) (valuation.Valuation, error) {
	w.mu.Lock()
	total, stale, took := w.total, w.stale, w.took
	w.mu.Unlock()
	select {
	case <-time.After(took):
	case <-ctx.Done():
		return valuation.Valuation{}, ctx.Err()
	}
	return valuation.Valuation{Total: apd.New(total, 0), Stale: stale}, nil
}

func (w *world) Now(context.Context, string) (currency.Rate, error) { return currency.USD(), nil }

func (w *world) At(_ context.Context, _ string, times ...time.Time) ([]currency.Rate, error) {
	return []currency.Rate{currency.USD()}, nil
}

// run watches in a bubble of synthetic time, until during ends. send may be nil.
func run(t *testing.T, send func(w *world), during func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{total: 1, of: portfolio.Portfolio{ID: uuid.New(), Owner: uuid.New(), Default: true}}
		w.hub = NewHub(nil, nil, time.Hour, slog.New(slog.DiscardHandler))
		w.Service = NewService(w.hub, w, w)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- w.Watch(ctx, w.of, "", "", func(s *State, _ string) error {
				text := ""
				if s != nil {
					text = s.Valuation.Total.Text('f')
				}
				w.told = append(w.told, text)
				if send != nil {
					send(w)
				}
				return nil
			})
		}()
		synctest.Wait()
		during(w)
		stop()
		if err := <-ended; err == nil {
			t.Error("a stream ends without an error")
		}
		if len(w.hub.byOwner) > 0 || len(w.hub.assets) > 0 {
			t.Errorf("after the end of the stream the hub has %d owners and %d assets", len(w.hub.byOwner),
				len(w.hub.assets))
		}
	})
}

// change makes the value another, and tells of it.
func (w *world) change() {
	w.with(func() { w.total++ })
	w.hub.WakeOwners([]uuid.UUID{w.of.Owner})
}

// after lets time pass.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// Changes come faster than states are told: they are not put off, and the last one is told.
func TestChangesWithoutEndAreToldTwiceASecond(t *testing.T) {
	run(t, nil, func(w *world) {
		const changes = 1000
		for range changes {
			w.change()
			after(10 * time.Millisecond)
		}
		after(time.Second)
		if n := len(w.told); n < 18 || n > 24 || w.told[n-1] != strconv.Itoa(changes+1) {
			t.Errorf("%d messages in 10 s, the last of %q, want about 20 and %d", n, w.told[n-1], changes+1)
		}
	})
}

// A reader that takes a minute for a message gets the newest state then, and none of those in between. The control is
// how many there were.
func TestASlowReaderGetsTheNewestState(t *testing.T) {
	run(t, func(w *world) {
		if len(w.told) == 1 {
			<-time.After(time.Minute)
		}
	}, func(w *world) {
		for range 50 {
			after(time.Second)
			w.change()
		}
		after(10*time.Second + changeDelay + time.Millisecond)
		if len(w.told) != 2 || w.told[1] != "51" {
			t.Errorf("%q was told, want 1 and 51", w.told)
		}
		if w.total != 51 {
			t.Errorf("the value was another %d times: nothing was proven", w.total)
		}
	})
}

// While a state takes long to work out, messages show that the stream works; and what changed meanwhile is not missed.
func TestAHeartbeatComesWhileAStateIsWorkedOut(t *testing.T) {
	run(t, nil, func(w *world) {
		w.with(func() { w.took = 12 * time.Second })
		w.change()
		after(changeDelay + 2*time.Second)
		w.change()
		after(25 * time.Second)
		var states []string
		beats := 0
		for _, text := range w.told {
			if text == "" {
				beats++
			} else {
				states = append(states, text)
			}
		}
		if len(states) != 3 || states[1] != "2" || states[2] != "3" || beats < 3 {
			t.Errorf("%q was told", w.told)
		}
	})
}

// What nobody tells of shows within two minutes, and the end of an outage within ten seconds.
func TestAStreamLooksForItself(t *testing.T) {
	run(t, nil, func(w *world) {
		w.with(func() { w.total = 2 })
		after(2 * time.Minute)
		if w.told[len(w.told)-1] != "" || !slices.Contains(w.told, "2") {
			t.Errorf("%q was told", w.told)
		}
		w.with(func() { w.stale = true })
		w.change()
		after(time.Second)
		w.with(func() { w.stale, w.total = false, 9 })
		after(10 * time.Second)
		if !slices.Contains(w.told, "9") {
			t.Errorf("%q was told", w.told)
		}
	})
}

// An owner who is erased has their token refused before their default portfolio is said to be gone.
func TestAnErasedOwnersStreamWaitsForTheEndOfTheirToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{total: 1, of: portfolio.Portfolio{ID: uuid.New(), Owner: uuid.New(), Default: true},
			fail: errs.NotFound("portfolio")}
		w.hub = NewHub(nil, nil, time.Hour, slog.New(slog.DiscardHandler))
		w.Service = NewService(w.hub, w, w)
		begun := time.Now()
		err := w.Watch(t.Context(), w.of, "", "", func(*State, string) error { return nil })
		if !errs.Is(err, errs.KindNotFound) || time.Since(begun) < revocationDelay {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}
