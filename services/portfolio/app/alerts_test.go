package app_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
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
