package dependency

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/errs"
)

// watch watches one dependency on a made-up clock, for as long as body runs.
func watch(t *testing.T, c Check, body func(t *testing.T, report func() Report)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := NewWatcher(slog.New(slog.DiscardHandler), nil)
		w.Add(c)
		ctx, stop := context.WithCancel(t.Context())
		go func() { _ = w.Watch(ctx) }()
		body(t, func() Report { return w.Reports()[0] })
		stop()
	})
}

func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestAnOutageIsSeenWithItsTimeAndItsEnd(t *testing.T) {
	var unavailable atomic.Bool
	ask := func(ctx context.Context) error {
		if unavailable.Load() {
			<-ctx.Done()
			return fmt.Errorf("ask: %w", ctx.Err())
		}
		<-time.After(10 * time.Millisecond)
		return nil
	}
	watch(t, Check{Name: "x", Probe: ask}, func(t *testing.T, report func() Report) {
		if r := report(); r.State != Unknown || !r.CheckedAt.IsZero() {
			t.Errorf("at first %+v", r)
		}
		pass(time.Second)
		begun := report()
		if begun.State != Reachable || begun.Last != 10*time.Millisecond {
			t.Errorf("then %+v", begun)
		}
		pass(10 * time.Second)
		if r := report(); !r.Since.Equal(begun.Since) || !r.CheckedAt.After(begun.CheckedAt) {
			t.Errorf("it has been reachable since %s, not %s", begun.Since, r.Since)
		}
		unavailable.Store(true)
		frozen := time.Now()
		pass(Interval + Interval/10 + defaultTimeout)
		r := report()
		if r.State != Unreachable || r.Reason != "TIMEOUT" || r.Since.Before(frozen) || r.Max != defaultTimeout ||
			r.Median != 10*time.Millisecond {
			t.Errorf("during the outage %+v", r)
		}
		unavailable.Store(false)
		pass(Interval + Interval/10 + defaultTimeout)
		if r := report(); r.State != Reachable || r.Reason != "" || r.Error != "" || r.Max != defaultTimeout {
			t.Errorf("after it %+v", r)
		}
		pass(2 * window)
		if r := report(); r.Max != 10*time.Millisecond {
			t.Errorf("after a minute the slowest is %s", r.Max)
		}
	})
}

func TestACheckThatIgnoresItsContextIsReportedAndNotAskedTwiceAtOnce(t *testing.T) {
	var running, most atomic.Int32
	release := sync.OnceValue(func() chan struct{} { return make(chan struct{}) }) // made within the bubble
	ask := func(context.Context) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		<-release()
		return nil
	}
	watch(t, Check{Name: "x", Probe: ask}, func(t *testing.T, report func() Report) {
		pass(time.Minute)
		if r := report(); r.State != Unreachable || r.Reason != "TIMEOUT" || most.Load() != 1 {
			t.Errorf("%+v, %d at once", r, most.Load())
		}
		close(release())
		pass(2 * Interval)
		if r := report(); r.State != Reachable {
			t.Errorf("%+v", r)
		}
	})
}

func TestReadersCostTheDependencyNothing(t *testing.T) {
	var asked atomic.Int32
	watch(t, Check{Name: "x", Probe: func(context.Context) error { asked.Add(1); return nil }},
		func(t *testing.T, report func() Report) {
			for range 60 {
				for range 1000 {
					report()
				}
				pass(time.Second)
			}
			if n := asked.Load(); n > 25 { // each 2.7 seconds at most
				t.Errorf("asked %d times in a minute", n)
			}
		})
}

func TestAReasonIsGivenForEachCauseAndNoSecretIsShown(t *testing.T) {
	const secret = "postgres://ann:hunter2secret@db.example:5432/purser_wallet"
	for reason, err := range map[string]error{
		"TIMEOUT":         &net.OpError{Op: "read", Err: context.DeadlineExceeded},
		"REFUSED":         &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"NAME_NOT_FOUND":  &net.DNSError{Err: "no such host", Name: "db.example"},
		"TLS":             x509.UnknownAuthorityError{},
		"CONNECTION_LOST": io.ErrUnexpectedEOF,
		"UNAVAILABLE":     status.Error(codes.Unavailable, "away"),
		"WRONG_CHAIN":     Failed("WRONG_CHAIN", errors.New("it is of chain 5")),
		"SOME_REASON":     errs.Unavailable("SOME_REASON", "away"),
		"ERROR":           errors.New("something else"),
	} {
		got, text := Describe(fmt.Errorf("ask %s\n\tagain hunter2secret: %w", secret, err), []string{secret})
		if got != reason || text == "" || strings.Contains(text, "hunter2") || strings.Contains(text, "\n") ||
			len(text) > 300 {
			t.Errorf("%s: %s, %q", reason, got, text)
		}
	}
}
