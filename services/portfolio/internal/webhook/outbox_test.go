package webhook_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/internal/seal"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// outbox is a real one, with a clock of the test, of one owner.
type outbox struct {
	*store.Alerts
	db     *testkit.DB
	owner  uuid.UUID
	sealer *seal.Sealer
	at     time.Time

	mu       sync.Mutex
	received []string // ids, in order
	bodies   map[string]string
}

func newOutbox(t *testing.T) *outbox {
	t.Helper()
	o := &outbox{db: testkit.Postgres(t, migrations.FS), owner: uuid.New(),
		at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), bodies: map[string]string{}}
	o.Alerts = store.NewAlerts(o.db.DB, func() {})
	var err error
	if o.sealer, err = seal.New([]byte(strings.Repeat("k", seal.KeySize))); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o *outbox) now() time.Time { return o.at }

// deliverer is a new one, as after a restart.
func (o *outbox) deliverer() *webhook.Deliverer {
	return webhook.NewDeliverer(o, webhook.NewSender(local(), nil), o.sealer, 24*time.Hour,
		slog.New(slog.DiscardHandler), o.now)
}

// endpoint adds an endpoint whose messages are noted, and then answered by more.
func (o *outbox) endpoint(t *testing.T, more http.HandlerFunc) webhook.Endpoint {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		id := r.Header.Get("Webhook-Id")
		o.mu.Lock()
		if before, ok := o.bodies[id]; ok && before != string(body) {
			t.Errorf("%s came with the bodies %s and %s", id, before, body)
		}
		o.received, o.bodies[id] = append(o.received, id), string(body)
		o.mu.Unlock()
		more(w, r)
	}))
	t.Cleanup(server.Close)
	s := webhook.NewService(o, local(), o.sealer, o.now)
	e, _, err := s.Create(t.Context(), o.owner, server.URL, uuid.Nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fire stores an alert of a rule of its own.
func (o *outbox) fire(t *testing.T) alert.Alert {
	t.Helper()
	id, err := uuid.NewV7()
	if err != nil {
		t.Fatal(err)
	}
	rule := alert.Rule{ID: id, Owner: o.owner, Portfolio: uuid.New(), Name: "rule", Kind: alert.PriceAbove,
		Limit: apd.New(1, 0), Token: "a:1/b:2", Hysteresis: new(apd.Decimal), CreatedAt: o.at, UpdatedAt: o.at,
		Version: 1}
	if rule, err = o.CreateRule(t.Context(), rule, 1000, nil); err != nil {
		t.Fatal(err)
	}
	alerts, err := o.Store(t.Context(), o.owner, []alert.Outcome{{Rule: rule, Fires: true,
		State: alert.State{Fired: true, Figure: "2", FiredAt: o.at}}})
	if err != nil || len(alerts) != 1 {
		t.Fatal(alerts, err)
	}
	return alerts[0]
}

func (o *outbox) deliver(t *testing.T, d *webhook.Deliverer) {
	t.Helper()
	if err := d.DeliverDue(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// times is how often each message came.
func (o *outbox) times() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := map[string]int{}
	for _, id := range o.received {
		n[id]++
	}
	return n
}

func (o *outbox) delivery(t *testing.T, a alert.Alert) alert.Delivery {
	t.Helper()
	list, err := o.AlertsByID(t.Context(), o.owner, []uuid.UUID{a.ID})
	if err != nil || len(list) != 1 || len(list[0].Deliveries) != 1 {
		t.Fatal(list, err)
	}
	return list[0].Deliveries[0]
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// An endpoint is down for an hour, while alerts fire and the service is restarted each minute: all come afterwards,
// each with one id and one body, and taken once. The outage costs few attempts.
func TestAnEndpointThatIsDownForAnHourGetsAllAfterwards(t *testing.T) {
	o := newOutbox(t)
	down := true
	o.endpoint(t, func(w http.ResponseWriter, _ *http.Request) {
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	var want []string
	for range 60 {
		want = append(want, o.fire(t).ID.String())
		for range 6 {
			o.deliver(t, o.deliverer())
			o.at = o.at.Add(10 * time.Second)
		}
	}
	attempts := len(o.received)
	if attempts < 60 || attempts > 60*8 {
		t.Errorf("the outage took %d attempts of 60 messages", attempts)
	}
	down = false
	o.mu.Lock()
	o.received = nil
	o.mu.Unlock()
	for range 100 { // the longest pause is 15 minutes
		o.deliver(t, o.deliverer())
		o.at = o.at.Add(10 * time.Second)
	}
	times := o.times()
	for _, id := range want {
		if times[id] != 1 {
			t.Errorf("%s came %d times after the outage", id, times[id])
		}
	}
	if len(times) != len(want) {
		t.Errorf("%d messages came, want %d", len(times), len(want))
	}
	t.Logf("figure: %d attempts of 60 messages in an hour of an outage", attempts)
}

// After a day of failures a message is given up, which the reader of its alert is told.
func TestAMessageIsGivenUpAfterADayAndThatIsTold(t *testing.T) {
	o := newOutbox(t)
	o.endpoint(t, status(http.StatusBadGateway))
	a := o.fire(t)
	begun := o.at
	d := o.deliverer()
	for !o.delivery(t, a).Dead && o.at.Sub(begun) < 48*time.Hour {
		o.deliver(t, d)
		o.at = o.at.Add(time.Minute)
	}
	got := o.delivery(t, a)
	took := o.at.Sub(begun)
	if !got.Dead || took < 24*time.Hour || took > 25*time.Hour || got.LastError != "status 502" {
		t.Errorf("after %s it is %+v", took, got)
	}
	var kinds []string
	err := o.db.Gorm(t.Context()).Raw("SELECT kind FROM changes WHERE subject_id = ? ORDER BY id", a.ID).
		Scan(&kinds).Error
	if err != nil || !slices.Equal(kinds, []string{store.AlertFired, store.AlertChanged}) {
		t.Errorf("the feed has %v, %v", kinds, err)
	}
	n := len(o.received)
	o.at = o.at.Add(48 * time.Hour)
	if o.deliver(t, d); len(o.received) != n {
		t.Error("it was posted after it was given up")
	}
}

// A process ends after the endpoint has taken a message and before that is stored: the message comes again, under the
// same id. The control is a message whose result was stored, which doesn't.
func TestAMessageOfAProcessThatEndedComesAgainUnderItsID(t *testing.T) {
	o := newOutbox(t)
	ends := true
	ctx, kill := context.WithCancel(t.Context())
	o.endpoint(t, func(http.ResponseWriter, *http.Request) {
		if ends {
			kill()
		}
	})
	a := o.fire(t)
	killed := webhook.NewDeliverer(unrecorded{o}, webhook.NewSender(local(), nil), o.sealer, 24*time.Hour,
		slog.New(slog.DiscardHandler), o.now)
	_ = killed.DeliverDue(ctx)
	if ends = false; len(o.received) != 1 || o.delivery(t, a).Delivered {
		t.Fatalf("%d came, %+v: nothing is proven", len(o.received), o.delivery(t, a))
	}
	o.deliver(t, o.deliverer())
	if len(o.received) != 1 {
		t.Error("it came again while the lease of the first attempt ran")
	}
	o.at = o.at.Add(time.Minute)
	for range 2 {
		o.deliver(t, o.deliverer())
		o.at = o.at.Add(time.Hour)
	}
	if got := o.times(); len(got) != 1 || got[a.ID.String()] != 2 || !o.delivery(t, a).Delivered {
		t.Errorf("came %v, %+v", got, o.delivery(t, a))
	}
}

// unrecorded is an outbox that stores no results, as if the process had ended before.
type unrecorded struct{ *outbox }

func (unrecorded) Delivered(context.Context, webhook.Claimed, time.Time) error {
	return context.Canceled
}

func (unrecorded) Retry(context.Context, webhook.Claimed, string, time.Time, time.Time) error {
	return context.Canceled
}

// One message that the endpoint refuses doesn't hold up the others for more than half a minute each.
func TestAMessageThatIsRefusedHoldsUpNoOther(t *testing.T) {
	o := newOutbox(t)
	refused := ""
	o.endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Webhook-Id") == refused {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	refused = o.fire(t).ID.String()
	var later alert.Alert
	d := o.deliverer()
	for range 20 {
		o.deliver(t, d)
		later = o.fire(t)
		o.at = o.at.Add(31 * time.Second)
		o.deliver(t, d)
		if !o.delivery(t, later).Delivered {
			t.Fatalf("%s after it fired, %+v", 31*time.Second, o.delivery(t, later))
		}
	}
}

// Two replicas claim at once: each message comes once.
func TestReplicasDeliverEachMessageOnce(t *testing.T) {
	o := newOutbox(t)
	for range 4 {
		o.endpoint(t, status(http.StatusNoContent))
	}
	const alerts = 20
	for range alerts {
		o.fire(t)
	}
	var all sync.WaitGroup
	for range 4 {
		d := o.deliverer()
		all.Go(func() {
			for range 30 {
				if err := d.DeliverDue(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	times := o.times()
	if len(times) != alerts {
		t.Errorf("%d messages came, want %d", len(times), alerts)
	}
	for id, n := range times {
		if n != 4 {
			t.Errorf("%s came %d times to 4 endpoints", id, n)
		}
	}
}

// Whose secret can't be opened is told to rotate it, and that helps at once: the one before is left out.
func TestARotatedSecretHelpsWhereTheOneBeforeCanNotBeOpened(t *testing.T) {
	o := newOutbox(t)
	e := o.endpoint(t, status(http.StatusNoContent))
	var err error
	if o.sealer, err = seal.New([]byte(strings.Repeat("x", seal.KeySize))); err != nil {
		t.Fatal(err)
	}
	a := o.fire(t)
	o.deliver(t, o.deliverer())
	if d := o.delivery(t, a); d.Delivered || !strings.Contains(d.LastError, "rotate it") {
		t.Fatalf("%+v", d)
	}
	_, _, err = webhook.NewService(o, local(), o.sealer, o.now).RotateSecret(t.Context(), o.owner, e.ID)
	if err != nil {
		t.Fatal(err)
	}
	o.at = o.at.Add(time.Minute)
	o.deliver(t, o.deliverer())
	if d := o.delivery(t, a); !d.Delivered {
		t.Errorf("%+v", d)
	}
}
