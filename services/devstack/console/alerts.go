package console

import (
	"context"
	"strings"
	"time"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// shownAlerts is how many alerts the page shows, the newest.
const shownAlerts = 10

// alerts is the data of the section "alerts".
type alerts struct {
	Rules, Armed int
	Fired        []firedAlert
}

// firedAlert is an alert. Webhooks says how far its deliveries are; "" without any.
type firedAlert struct {
	ID, Rule, Kind, Figure, Limit, Webhooks string
	Time                                    time.Time
	Acknowledged                            bool
}

func (s *services) alerts(ctx context.Context) (any, error) {
	client := portfoliov1.NewAlertServiceClient(s.portfolio)
	rules, err := client.ListAlertRules(ctx, &portfoliov1.ListAlertRulesRequest{PageSize: 500})
	if err != nil {
		return nil, err
	}
	list, err := client.ListAlerts(ctx, &portfoliov1.ListAlertsRequest{PageSize: shownAlerts})
	if err != nil {
		return nil, err
	}
	out := alerts{Rules: len(rules.GetRules())}
	for _, r := range rules.GetRules() {
		if !r.GetDisabled() && r.GetState() == portfoliov1.AlertState_ALERT_STATE_ARMED {
			out.Armed++
		}
	}
	for _, a := range list.GetAlerts() {
		limit := a.GetLimit()
		if limit == "" {
			limit = a.GetWindow().AsDuration().String()
		}
		kind := strings.TrimPrefix(a.GetKind().String(), "ALERT_KIND_")
		out.Fired = append(out.Fired, firedAlert{ID: a.GetAlertId(), Rule: a.GetRuleName(),
			Kind:   strings.ToLower(strings.ReplaceAll(kind, "_", " ")),
			Figure: demo.Decimals(a.GetFigure(), 6), Limit: limit, Webhooks: deliveriesText(a.GetDeliveries()),
			Time: a.GetFireTime().AsTime(), Acknowledged: a.GetAcknowledgeTime() != nil})
	}
	return out, nil
}

// deliveriesText says how far the worst delivery is.
func deliveriesText(all []*portfoliov1.AlertDelivery) (text string) {
	for _, d := range all {
		switch d.GetState() {
		case portfoliov1.DeliveryState_DELIVERY_STATE_DEAD:
			return "given up: " + d.GetLastError()
		case portfoliov1.DeliveryState_DELIVERY_STATE_PENDING:
			text = strings.TrimSuffix("pending: "+d.GetLastError(), ": ")
		default:
			if text == "" {
				text = "delivered"
			}
		}
	}
	return text
}
