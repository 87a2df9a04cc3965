package signing_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// trusting takes its own clock for the database's: nothing is seen to be off,
// and nothing put right.
type trusting struct {
	*rotating
	now func() time.Time
}

func (s trusting) Load(ctx context.Context, issuer string) (signing.Reading, error) {
	reading, err := s.rotating.Load(ctx, issuer)
	reading.Now = s.now()
	return reading, err
}

// clocks is a suite of signers and verifiers of which each has a clock of its
// own, in made-up time under the default policy.
type clocks struct {
	now       time.Time // of the database
	store     *rotating
	rotator   *signing.Rotator
	signers   []*signing.Ring
	verifiers []*known
	alive     []signed
	every     int // minutes a token of each

	minutes, verified, failed, refused int
}

// known verifies with the set that it fetched last, which it keeps for as long
// as it may.
type known struct {
	*authn.Verifier
	keys  map[string]authn.Key
	until time.Time
}

func (k *known) Key(_ context.Context, kid string) (authn.Key, error) {
	key, ok := k.keys[kid]
	if !ok {
		return authn.Key{}, authn.ErrUnknownKey
	}
	return key, nil
}

func newClocks(t *testing.T, off time.Duration, trust bool) *clocks {
	t.Helper()
	p := policy()
	c := &clocks{now: time.Unix(1_800_000_000, 0), every: testkit.Size(10, 1)}
	c.store = &rotating{now: func() time.Time { return c.now }}
	c.rotator = signing.NewRotator(issuer, p, c.store, sealer(t, "kek"), slog.New(slog.DiscardHandler))
	for _, skew := range []time.Duration{-off, 0, off} {
		now := func() time.Time { return c.now.Add(skew) }
		var s signing.Store = c.store
		if trust {
			s = trusting{c.store, now}
		}
		r := signing.NewRing(issuer, p, s, sealer(t, "kek"), slog.New(slog.DiscardHandler))
		r.SetNow(now)
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.signers = append(c.signers, r)
		v := &known{}
		v.Verifier = authn.NewVerifier(v, authn.Options{Issuer: issuer, Now: now})
		c.verifiers = append(c.verifiers, v)
	}
	return c
}

// minute is a minute of the database's time: tokens are verified as soon as
// they are signed and a second before they expire.
func (c *clocks) minute(t *testing.T) {
	t.Helper()
	next := c.now.Add(time.Minute)
	c.now = next.Add(-time.Second)
	for len(c.alive) > 0 && !c.alive[0].expires.After(next) {
		if c.now.Before(c.alive[0].expires) {
			c.verify(t, c.alive[0].token)
		}
		c.alive = c.alive[1:]
	}
	c.now = next
	if err := c.rotator.Rotate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	for _, r := range c.signers {
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i, v := range c.verifiers {
		if set, ok := c.signers[i].Published(); ok && !c.now.Before(v.until) {
			v.keys, v.until = map[string]authn.Key{}, c.now.Add(set.MaxAge)
			for _, k := range set.Keys {
				v.keys[k.KeyID] = authn.Key{Algorithm: k.Algorithm, Public: k.Key}
			}
		}
	}
	c.minutes++
	if c.minutes%c.every == 0 {
		c.sign(t)
	}
}

func (c *clocks) sign(t *testing.T) {
	t.Helper()
	for _, r := range c.signers {
		token, _, err := r.Sign(claims(), policy().TokenTTL)
		switch {
		case reason(err) == "CLOCK_SKEWED":
			c.refused++
			continue
		case err != nil:
			t.Fatal(err)
		}
		c.verify(t, token)
		c.alive = append(c.alive, signed{token, c.now.Add(policy().TokenTTL)})
	}
}

func (c *clocks) verify(t *testing.T, token string) {
	t.Helper()
	for _, v := range c.verifiers {
		c.verified++
		if _, err := v.Verify(t.Context(), token); err != nil {
			c.failed++
		}
	}
}

func TestClocksThatAreOffByNoMoreThanTheSkewBreakNoToken(t *testing.T) {
	rotations := testkit.Size(1, 20)
	c := newClocks(t, policy().Skew, false)
	for c.store.promotions < rotations {
		c.minute(t)
	}
	if c.failed > 0 || c.refused > 0 {
		t.Errorf("%d of %d verifications failed, %d signatures were refused", c.failed, c.verified, c.refused)
	}
	testkit.Figure(t, "clocks of signers and verifiers at -30 s, 0 and +30 s, default policy, %d rotations: %d of "+
		"%d verifications failed, %d signatures refused",
		c.store.promotions, c.failed, c.verified, c.refused)
	control := newClocks(t, policy().Skew, true)
	for range 60 {
		control.minute(t)
	}
	if control.failed == 0 {
		t.Errorf("%d verifications and none failed where signers take their own clock for the database's: this "+
			"proves nothing", control.verified)
	}
	testkit.Figure(t, "control: signers that put their own time into tokens: %d of %d verifications failed",
		control.failed, control.verified)
}

func TestClocksThatAreOffByMoreStopTheirSignersAndNoOther(t *testing.T) {
	far := 2 * policy().Skew
	c := newClocks(t, far, false)
	c.verifiers = c.verifiers[1:2]
	minutes := testkit.Size(60, 3000)
	for range minutes {
		c.minute(t)
	}
	if c.failed > 0 || c.verified == 0 || c.refused != 2*minutes/c.every {
		t.Errorf("%d of %d verifications failed, %d signatures were refused", c.failed, c.verified, c.refused)
	}
	control := newClocks(t, far, true)
	control.verifiers = control.verifiers[1:2]
	for range 60 {
		control.minute(t)
	}
	if control.failed == 0 || control.refused > 0 {
		t.Errorf("without the check %d of %d verifications failed, %d refused: this proves nothing", control.failed,
			control.verified, control.refused)
	}
	testkit.Figure(t, "clocks at -60 s and +60 s: every one of their %d signatures refused as CLOCK_SKEWED, %d of "+
		"%d verifications of the others failed (control, without the check: %d of %d)",
		c.refused, c.failed, c.verified, control.failed, control.verified)
}

// Until when a user's tokens are refused is told by the database's clock.
func TestATokensTimesAreTheDatabasesWhateverItsSignersClock(t *testing.T) {
	for _, off := range []time.Duration{-policy().Skew, policy().Skew} {
		r, m, c := ready(t)
		m.clock = func() time.Time { return c.at.Add(-off) }
		if err := r.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.at = c.at.Add(5 * time.Second)
		token, expires, err := r.Sign(claims(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		caller, err := authn.NewVerifier(r, authn.Options{Issuer: issuer, Now: m.clock}).Verify(t.Context(), token)
		if now := m.clock(); err != nil || !caller.IssuedAt.Equal(now) || !expires.Equal(now.Add(time.Minute)) {
			t.Errorf("a clock that is %s ahead: issued %s from the database's now, %v", off, caller.IssuedAt.Sub(now),
				err)
		}
	}
}

func TestAClockThatIsTooFarOffIsToldByAMetric(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	r, m, c := ready(t)
	m.clock = func() time.Time { return c.at.Add(-2 * policy().Skew) }
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan error)
	go func() { kept <- r.Run(ctx) }()
	defer func() { cancel(); <-kept }()
	testkit.Eventually(t, time.Minute, func() bool {
		var all metricdata.ResourceMetrics
		if err := reader.Collect(ctx, &all); err != nil {
			t.Fatal(err)
		}
		for _, scope := range all.ScopeMetrics {
			for _, one := range scope.Metrics {
				points, ok := one.Data.(metricdata.Gauge[float64])
				if ok && one.Name == "jwt_signer_clock_skew_seconds" && len(points.DataPoints) == 1 &&
					points.DataPoints[0].Value == 60 {
					return true
				}
			}
		}
		return false
	})
	if _, _, err := r.Sign(claims(), time.Minute); reason(err) != "CLOCK_SKEWED" {
		t.Error(err)
	}
}
