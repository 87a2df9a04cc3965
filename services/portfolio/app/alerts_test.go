package app_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// From a change that the wallet service tells of to the alert, its webhook and its stream, at the other replica.
func TestATransferIsToldToTheStreamAndTheWebhook(t *testing.T) {
	a, b, w, ctx, user, r := alerting(t)
	stream, err := b.alerts.WatchAlerts(ctx, &portfoliov1.WatchAlertsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || len(first.GetAlerts()) > 0 || first.GetCursor() == "" {
		t.Fatalf("the first message is %v, %v", first, err)
	}
	rule := a.rule(ctx, t, &portfoliov1.CreateAlertRuleRequest{Name: "moved",
		Kind: portfoliov1.AlertKind_ALERT_KIND_TRANSFER, TokenId: liveToken, Limit: "100"})
	testkit.Eventually(t, 10*time.Second, func() bool { return w.readsOf(user) > 0 })
	for range 3 { // the amount of before is known
		n := w.readsOf(user)
		testkit.Eventually(t, 10*time.Second, func() bool { return w.readsOf(user) > n })
	}
	w.hold("1001", user)
	var told *portfoliov1.Alert
	for told == nil {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.GetAlerts()) > 0 {
			told = m.GetAlerts()[0]
		}
	}
	if told.GetFigure() != "1000" || told.GetRuleId() != rule.GetRuleId() || told.GetLimit() != "100" {
		t.Errorf("told %v", told)
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return len(r.distinct()) == 1 })
	testkit.Eventually(t, 10*time.Second, func() bool {
		list := b.fired(ctx, t)
		return len(list) == 1 && len(list[0].GetDeliveries()) == 1 &&
			list[0].GetDeliveries()[0].GetState() == portfoliov1.DeliveryState_DELIVERY_STATE_DELIVERED
	})
	r.check(t)
	if ids := r.distinct(); ids[0] != told.GetAlertId() {
		t.Errorf("the webhook has the id %s, the alert %s", ids[0], told.GetAlertId())
	}
}

// A price moves around its limit at two replicas that look each second: one alert, and another one only after the
// price was back by more than the hysteresis. Nothing is told of a price that isn't known.
func TestAPriceAroundItsLimitIsOneAlert(t *testing.T) {
	a, _, w, ctx, _, r := alerting(t)
	rule := a.rule(ctx, t, &portfoliov1.CreateAlertRuleRequest{Kind: portfoliov1.AlertKind_ALERT_KIND_PRICE_BELOW,
		TokenId: liveToken, Limit: "9.5"})
	looks := func(price string) {
		t.Helper()
		n := 0
		w.with(func() { w.price, n = price, w.priceReads })
		// Two reads after the change began after it.
		testkit.Eventually(t, 20*time.Second, func() (seen bool) {
			w.with(func() { seen = w.priceReads >= n+3 })
			return seen
		})
	}
	for _, price := range []string{"9.6", "9.49", "9.51", "9.4", "9.6", "9.49"} {
		looks(price)
	}
	testkit.Eventually(t, 10*time.Second, func() bool { return len(r.distinct()) == 1 })
	if list := a.fired(ctx, t); len(list) != 1 || list[0].GetFigure() != "9.49" {
		t.Errorf("fired %v", list)
	}
	got, err := a.alerts.GetAlertRule(ctx, &portfoliov1.GetAlertRuleRequest{RuleId: rule.GetRuleId()})
	if err != nil || got.GetRule().GetState() != portfoliov1.AlertState_ALERT_STATE_FIRED {
		t.Errorf("%v, %v", got, err)
	}
	w.with(func() { w.price = "9.7" })
	testkit.Eventually(t, 20*time.Second, func() bool {
		got, err := a.alerts.GetAlertRule(ctx, &portfoliov1.GetAlertRuleRequest{RuleId: rule.GetRuleId()})
		return err == nil && got.GetRule().GetState() == portfoliov1.AlertState_ALERT_STATE_ARMED
	})
	r.check(t)
}

// The service ends after an alert was stored and before its webhook was taken, and is away while the price passes
// another limit. After its start both are told, each under one id.
func TestARestartLosesNoAlertAndRepeatsNone(t *testing.T) {
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	w := newLiveWallet()
	var settings []string
	s.walletAddr, settings = serveLive(t, s.issuer, w)
	settings = append(settings, webhookSettings("PURSER_ALERTS_EVERY=1s")...)
	r := newReceiver(t)
	r.with(func() {
		r.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	})
	user := uuid.New()
	var first *portfoliov1.Alert
	t.Run("before", func(t *testing.T) {
		s := s.replica(t, servicetest.NoRedis, io.Discard, settings...)
		ctx, _ := s.as(t, user, "portfolio:read", "portfolio:write", "wallet:read")
		s.endpoint(ctx, t, r, "/")
		for _, limit := range []string{"9.5", "5"} {
			s.rule(ctx, t, &portfoliov1.CreateAlertRuleRequest{TokenId: liveToken, Limit: limit,
				Kind: portfoliov1.AlertKind_ALERT_KIND_PRICE_BELOW})
		}
		w.with(func() { w.price = "9" })
		testkit.Eventually(t, 20*time.Second, func() bool { return len(r.distinct()) == 1 })
		first = s.fired(ctx, t)[0]
	})
	w.with(func() { w.price = "4" })
	r.with(func() { r.answer = nil })
	t.Run("after", func(t *testing.T) {
		s := s.replica(t, servicetest.NoRedis, io.Discard, settings...)
		ctx, _ := s.as(t, user, "portfolio:read", "portfolio:write", "wallet:read")
		testkit.Eventually(t, time.Minute, func() bool {
			list := s.fired(ctx, t)
			return len(list) == 2 && delivered(list[0]) && delivered(list[1])
		})
		list := s.fired(ctx, t)
		if list[0].GetAlertId() != first.GetAlertId() || list[1].GetFigure() != "4" {
			t.Errorf("fired %v", list)
		}
		if got := r.distinct(); len(got) != 2 {
			t.Errorf("webhooks came with the ids %v", got)
		}
	})
	r.check(t)
}

func delivered(a *portfoliov1.Alert) bool {
	for _, d := range a.GetDeliveries() {
		if d.GetState() != portfoliov1.DeliveryState_DELIVERY_STATE_DELIVERED {
			return false
		}
	}
	return len(a.GetDeliveries()) > 0
}

// One owner's endpoint never answers. The other's webhooks come meanwhile.
func TestASlowEndpointHoldsUpNobodyElse(t *testing.T) {
	a, _, w, ctx, user, r := alerting(t)
	slow, _ := a.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	hanging := newReceiver(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	hanging.with(func() { hanging.answer = func(http.ResponseWriter, *http.Request) { <-release } })
	for range 5 {
		a.endpoint(slow, t, hanging, "/")
	}
	for _, of := range []context.Context{slow, ctx} {
		for range 10 {
			a.rule(of, t, &portfoliov1.CreateAlertRuleRequest{Kind: portfoliov1.AlertKind_ALERT_KIND_PRICE_BELOW,
				TokenId: liveToken, Limit: "9.5"})
		}
	}
	w.with(func() { w.price = "9" })
	w.hold("1", user)
	testkit.Eventually(t, 20*time.Second, func() bool { return len(r.distinct()) == 10 })
	testkit.Eventually(t, 20*time.Second, func() bool { return len(hanging.distinct()) > 0 })
	for _, alert := range a.fired(slow, t) {
		if delivered(alert) {
			t.Error("a webhook that nobody answered counts as delivered")
		}
	}
}

func TestRulesAreChangedByTheirEtagAndRequest(t *testing.T) {
	a, b, _, ctx, _, _ := alerting(t, "PURSER_ALERTS_RULES_PER_OWNER=2")
	create := &portfoliov1.CreateAlertRuleRequest{Name: "low", Kind: portfoliov1.AlertKind_ALERT_KIND_HEALTH_BELOW,
		Limit: "1.5", RequestId: uuid.NewString()}
	rule := a.rule(ctx, t, create)
	if again := b.rule(ctx, t, create); again.GetRuleId() != rule.GetRuleId() {
		t.Errorf("a repeated call made %v", again)
	}
	if rule.GetHysteresis() != "0.02" || rule.GetEtag() == "" || rule.GetPortfolioId() == "" {
		t.Errorf("made %v", rule)
	}
	update := &portfoliov1.UpdateAlertRuleRequest{RuleId: rule.GetRuleId(), Limit: "1.2", Etag: rule.GetEtag(),
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"limit"}}, RequestId: uuid.NewString()}
	for _, s := range []service{a, b} {
		got, err := s.alerts.UpdateAlertRule(ctx, update)
		if err != nil || got.GetRule().GetLimit() != "1.2" || got.GetRule().GetName() != "low" {
			t.Errorf("%v, %v", got, err)
		}
	}
	update.RequestId = ""
	_, err := a.alerts.UpdateAlertRule(ctx, update)
	wantReason(t, err, errs.KindConflict, "ETAG_MISMATCH")
	update.UpdateMask.Paths, update.Etag = []string{"kind"}, ""
	_, err = a.alerts.UpdateAlertRule(ctx, update)
	wantReason(t, err, errs.KindInvalid, "")
	a.rule(ctx, t, &portfoliov1.CreateAlertRuleRequest{Kind: create.GetKind(), Limit: "1", Disabled: true})
	_, err = a.alerts.CreateAlertRule(ctx, &portfoliov1.CreateAlertRuleRequest{Name: "x", Kind: create.GetKind(),
		Limit: "1"})
	wantReason(t, err, errs.KindExhausted, "TOO_MANY_ALERT_RULES")
	stranger, _ := a.newUser(t, "portfolio:read", "portfolio:write")
	_, err = a.alerts.DeleteAlertRule(stranger, &portfoliov1.DeleteAlertRuleRequest{RuleId: rule.GetRuleId()})
	wantReason(t, err, errs.KindNotFound, "")
	remove := &portfoliov1.DeleteAlertRuleRequest{RuleId: rule.GetRuleId(), RequestId: uuid.NewString()}
	for range 2 {
		_, err = a.alerts.DeleteAlertRule(ctx, remove)
		if err != nil {
			t.Error(err)
		}
	}
	list, err := a.alerts.ListAlertRules(ctx, &portfoliov1.ListAlertRulesRequest{})
	if err != nil || len(list.GetRules()) != 1 {
		t.Errorf("%v, %v", list, err)
	}
}

// wantReason fails the test unless an error has a kind, and a reason if one is given.
func wantReason(t *testing.T, err error, kind errs.Kind, reason string) {
	t.Helper()
	e := errs.As(err)
	if e == nil || e.Kind != kind || reason != "" && e.Reason != reason {
		t.Errorf("answered %v, want %s %s", err, kind, reason)
	}
}

// A secret is told once: neither by a repeated call, nor by a reading, nor by the database.
func TestASecretIsToldOnce(t *testing.T) {
	a, b, _, ctx, _, r := alerting(t)
	request := &portfoliov1.CreateWebhookEndpointRequest{Url: r.URL + "/once", RequestId: uuid.NewString()}
	made, err := a.alerts.CreateWebhookEndpoint(ctx, request)
	if err != nil || !strings.HasPrefix(made.GetSecret(), "whsec_") {
		t.Fatal(made, err)
	}
	again, err := b.alerts.CreateWebhookEndpoint(ctx, request)
	id := made.GetEndpoint().GetEndpointId()
	if err != nil || again.GetSecret() != "" || again.GetEndpoint().GetEndpointId() != id {
		t.Errorf("a repeated call answers %v, %v", again, err)
	}
	rotated, err := a.alerts.RotateWebhookSecret(ctx, &portfoliov1.RotateWebhookSecretRequest{EndpointId: id})
	if err != nil || rotated.GetSecret() == made.GetSecret() ||
		rotated.GetEndpoint().GetPreviousSecretExpireTime() == nil {
		t.Errorf("%v, %v", rotated, err)
	}
	var stored string
	err = a.db.SQL().QueryRowContext(t.Context(), `SELECT string_agg(x::text, '')
		|| (SELECT string_agg(convert_from(response, 'UTF8'), '') FROM requests)
		FROM webhook_endpoints x`).Scan(&stored)
	if err != nil || !strings.Contains(stored, "/once") {
		t.Fatal(stored, err)
	}
	for _, secret := range []string{made.GetSecret(), rotated.GetSecret()} {
		text := strings.TrimPrefix(secret, "whsec_")
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != 32 {
			t.Fatal(text, err)
		}
		if strings.Contains(stored, text) || strings.Contains(stored, hex.EncodeToString(raw)) {
			t.Error("the database has the secret")
		}
	}
}

// Without the settings that tests have, nothing that is private is posted to, and http not at all; without a key and
// an account there are neither webhooks nor rules.
func TestWhatADeploymentDoesNotAllowIsRefused(t *testing.T) {
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	_, err := s.alerts.CreateWebhookEndpoint(ctx, &portfoliov1.CreateWebhookEndpointRequest{Url: "https://a.example/"})
	wantReason(t, err, errs.KindFailedPrecondition, "WEBHOOKS_NOT_CONFIGURED")
	for _, url := range []string{"http://a.example/", "https://169.254.169.254/latest", "https://[::ffff:10.0.0.1]/"} {
		_, err = s.alerts.CreateWebhookEndpoint(ctx, &portfoliov1.CreateWebhookEndpointRequest{Url: url})
		wantReason(t, err, errs.KindInvalid, "")
	}
	_, err = s.alerts.CreateAlertRule(ctx, &portfoliov1.CreateAlertRuleRequest{Name: "x", Limit: "1",
		Kind: portfoliov1.AlertKind_ALERT_KIND_HEALTH_BELOW})
	wantReason(t, err, errs.KindFailedPrecondition, "ALERTS_NOT_CONFIGURED")
}

func TestAcknowledgedAlertsAreToldAndLeftOut(t *testing.T) {
	a, b, w, ctx, _, _ := alerting(t)
	for range 3 {
		a.rule(ctx, t, &portfoliov1.CreateAlertRuleRequest{Kind: portfoliov1.AlertKind_ALERT_KIND_PRICE_BELOW,
			TokenId: liveToken, Limit: "9.5"})
	}
	w.with(func() { w.price = "9" })
	testkit.Eventually(t, 20*time.Second, func() bool {
		list := a.fired(ctx, t)
		return len(list) == 3 && delivered(list[0]) && delivered(list[1]) && delivered(list[2])
	})
	list := a.fired(ctx, t)
	stream, err := b.alerts.WatchAlerts(ctx, &portfoliov1.WatchAlertsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	_, err = a.alerts.AcknowledgeAlerts(ctx,
		&portfoliov1.AcknowledgeAlertsRequest{AlertIds: []string{list[0].GetAlertId(), uuid.NewString()}})
	wantReason(t, err, errs.KindNotFound, "")
	ids := []string{list[2].GetAlertId(), list[0].GetAlertId()}
	got, err := a.alerts.AcknowledgeAlerts(ctx, &portfoliov1.AcknowledgeAlertsRequest{AlertIds: ids})
	if err != nil || len(got.GetAlerts()) != 2 || got.GetAlerts()[0].GetAlertId() != ids[0] ||
		got.GetAlerts()[1].GetAcknowledgeTime() == nil {
		t.Errorf("%v, %v", got, err)
	}
	told := map[string]bool{}
	for len(told) < 2 {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, alert := range m.GetAlerts() {
			told[alert.GetAlertId()] = alert.GetAcknowledgeTime() != nil
		}
	}
	if !told[ids[0]] || !told[ids[1]] {
		t.Errorf("the stream told %v", told)
	}
	open, err := a.alerts.ListAlerts(ctx, &portfoliov1.ListAlertsRequest{UnacknowledgedOnly: true})
	if err != nil || len(open.GetAlerts()) != 1 || open.GetAlerts()[0].GetAlertId() != list[1].GetAlertId() {
		t.Errorf("%v, %v", open, err)
	}
}
