package rpc

import (
	"context"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

// Page sizes of ListAlertRules and ListAlerts, which the contract states.
const (
	defaultAlertPage = 100
	maxAlertPage     = 500
)

// AlertServer serves purser.portfolio.v1.AlertService.
type AlertServer struct {
	portfoliov1.UnimplementedAlertServiceServer
	alerts        *alert.Service
	webhooks      *webhook.Service
	changes       *feed.Feed
	readerTimeout time.Duration
	watchers      *streams.Pool // by caller
}

// NewAlertServer serves rules, alerts and webhooks. A message of a stream may wait for its reader for as long as p
// says.
func NewAlertServer(a *alert.Service, w *webhook.Service, changes *feed.Feed, p feed.Policy) *AlertServer {
	return &AlertServer{alerts: a, webhooks: w, changes: changes, readerTimeout: p.ReaderTimeout,
		watchers: streams.NewPool(maxWatchers, maxWatchersPerCaller)}
}

// Check looks at a message beside the rules of its contract, as PortfolioServer.Check.
func (s *AlertServer) Check(m proto.Message) error {
	switch r := m.(type) {
	case *portfoliov1.CreateAlertRuleRequest:
		c, err := ruleFromProto(r)
		rule := alert.Rule{Kind: c.Kind}
		if c.Kind == "" { // the contract's rules tell of it, and the others depend on it
			return err
		}
		return errs.AllInvalid(err, rule.Define(c.Definition))
	case *portfoliov1.UpdateAlertRuleRequest:
		c, err := ruleChangeFromProto(r)
		return errs.AllInvalid(err, alert.CheckFields(c.Fields))
	case *portfoliov1.DeleteAlertRuleRequest:
		_, err := requests.ID(r)
		return err
	case *portfoliov1.WatchAlertsRequest:
		return feed.CheckCursor(r.GetCursor())
	case *portfoliov1.CreateWebhookEndpointRequest:
		_, err := requests.ID(r)
		return errs.AllInvalid(err, s.webhooks.CheckURL(r.GetUrl()))
	}
	return nil
}

// windowFromProto reads a duration.
func windowFromProto(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return 0, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, errs.Invalid("window", "must be a valid duration")
	}
	return d.AsDuration(), nil
}

func ruleFromProto(r *portfoliov1.CreateAlertRuleRequest) (c alert.Creation, err error) {
	var windowErr, requestErr, portfolioErr error
	c.Kind = alertKindFromProto(r.GetKind())
	c.Definition = alert.Definition{Name: r.GetName(), Limit: r.GetLimit(), Token: r.GetTokenId(),
		Hysteresis: r.GetHysteresis(), Disabled: r.GetDisabled()}
	c.Window, windowErr = windowFromProto(r.GetWindow())
	c.Request, requestErr = requests.ID(r)
	if r.GetPortfolioId() != "" {
		if c.Portfolio, portfolioErr = uuid.Parse(r.GetPortfolioId()); portfolioErr != nil {
			portfolioErr = errs.Invalid("portfolio_id", "must be a UUID")
		}
	}
	return c, errs.AllInvalid(portfolioErr, windowErr, requestErr)
}

func ruleChangeFromProto(r *portfoliov1.UpdateAlertRuleRequest) (c alert.Change, err error) {
	var windowErr, requestErr error
	c.Definition = alert.Definition{Name: r.GetName(), Limit: r.GetLimit(), Hysteresis: r.GetHysteresis(),
		Disabled: r.GetDisabled()}
	c.Fields, c.ETag = r.GetUpdateMask().GetPaths(), r.GetEtag()
	c.Window, windowErr = windowFromProto(r.GetWindow())
	c.Request, requestErr = requests.ID(r)
	return c, errs.AllInvalid(windowErr, requestErr)
}

// idFromProto reads the id in a field.
func idFromProto(field, text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, errs.Invalid(field, "must be a UUID, "+errs.Given(text))
	}
	return id, nil
}

// CreateAlertRule implements the RPC.
func (s *AlertServer) CreateAlertRule(ctx context.Context,
	req *portfoliov1.CreateAlertRuleRequest) (*portfoliov1.CreateAlertRuleResponse, error) {
	c, err := ruleFromProto(req)
	if err != nil {
		return nil, err
	}
	if req.GetPortfolioId() != "" && c.Portfolio == uuid.Nil { // which means the default portfolio to Find
		return nil, errs.NotFound("portfolio " + req.GetPortfolioId()).ListedBy("PortfolioService.ListPortfolios")
	}
	rule, err := s.alerts.Create(ctx, authn.CallerFrom(ctx).UserID, c)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.CreateAlertRuleResponse{Rule: ruleToProto(rule)}, nil
}

// GetAlertRule implements the RPC.
func (s *AlertServer) GetAlertRule(ctx context.Context,
	req *portfoliov1.GetAlertRuleRequest) (*portfoliov1.GetAlertRuleResponse, error) {
	id, err := idFromProto("rule_id", req.GetRuleId())
	if err != nil {
		return nil, err
	}
	rule, err := s.alerts.Rule(ctx, authn.CallerFrom(ctx).UserID, id)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.GetAlertRuleResponse{Rule: ruleToProto(rule)}, nil
}

// ListAlertRules implements the RPC.
func (s *AlertServer) ListAlertRules(ctx context.Context,
	req *portfoliov1.ListAlertRulesRequest) (*portfoliov1.ListAlertRulesResponse, error) {
	owner := authn.CallerFrom(ctx).UserID
	query := page.NewQuery("ListAlertRules", owner.String())
	after, _, err := page.Parse[uuid.UUID](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultAlertPage, maxAlertPage)
	rules, err := s.alerts.Rules(ctx, owner, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, rules, limit, func(r alert.Rule) uuid.UUID { return r.ID }, ruleToProto)
	return &portfoliov1.ListAlertRulesResponse{Rules: onPage, NextPageToken: next}, err
}

// UpdateAlertRule implements the RPC.
func (s *AlertServer) UpdateAlertRule(ctx context.Context,
	req *portfoliov1.UpdateAlertRuleRequest) (*portfoliov1.UpdateAlertRuleResponse, error) {
	c, err := ruleChangeFromProto(req)
	id, idErr := idFromProto("rule_id", req.GetRuleId())
	if err := errs.AllInvalid(idErr, err); err != nil {
		return nil, err
	}
	rule, err := s.alerts.Update(ctx, authn.CallerFrom(ctx).UserID, id, c)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.UpdateAlertRuleResponse{Rule: ruleToProto(rule)}, nil
}

// DeleteAlertRule implements the RPC.
func (s *AlertServer) DeleteAlertRule(ctx context.Context,
	req *portfoliov1.DeleteAlertRuleRequest) (*portfoliov1.DeleteAlertRuleResponse, error) {
	request, err := requests.ID(req)
	id, idErr := idFromProto("rule_id", req.GetRuleId())
	if err := errs.AllInvalid(idErr, err); err != nil {
		return nil, err
	}
	if err := s.alerts.Delete(ctx, authn.CallerFrom(ctx).UserID, id, req.GetEtag(), request); err != nil {
		return nil, err
	}
	return &portfoliov1.DeleteAlertRuleResponse{}, nil
}

// ListAlerts implements the RPC.
func (s *AlertServer) ListAlerts(ctx context.Context,
	req *portfoliov1.ListAlertsRequest) (*portfoliov1.ListAlertsResponse, error) {
	owner := authn.CallerFrom(ctx).UserID
	which := "all"
	if req.GetUnacknowledgedOnly() {
		which = "unacknowledged"
	}
	query := page.NewQuery("ListAlerts", owner.String(), which)
	before, _, err := page.Parse[uuid.UUID](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultAlertPage, maxAlertPage)
	alerts, err := s.alerts.Alerts(ctx, owner, before, req.GetUnacknowledgedOnly(), limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, alerts, limit, func(a alert.Alert) uuid.UUID { return a.ID }, alertToProto)
	return &portfoliov1.ListAlertsResponse{Alerts: onPage, NextPageToken: next}, err
}

// AcknowledgeAlerts implements the RPC.
func (s *AlertServer) AcknowledgeAlerts(ctx context.Context,
	req *portfoliov1.AcknowledgeAlertsRequest) (*portfoliov1.AcknowledgeAlertsResponse, error) {
	ids, err := idsFromProto("alert_ids", req.GetAlertIds())
	if err != nil {
		return nil, err
	}
	alerts, err := s.alerts.AcknowledgeAll(ctx, authn.CallerFrom(ctx).UserID, ids)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.AcknowledgeAlertsResponse{Alerts: alertsToProto(alerts)}, nil
}

// WatchAlerts implements the RPC.
func (s *AlertServer) WatchAlerts(req *portfoliov1.WatchAlertsRequest,
	stream grpc.ServerStreamingServer[portfoliov1.WatchAlertsResponse]) (err error) {
	owner := authn.CallerFrom(stream.Context()).UserID
	if err := feed.CheckCursor(req.GetCursor()); err != nil {
		return err
	}
	ctx, end, err := s.watchers.Hold(stream.Context(), owner.String(), "streams")
	if err != nil {
		return err
	}
	defer end(&err)
	err = s.changes.Watch(ctx, req.GetCursor(), feed.Filter{Owner: owner}, func(c []feed.Change, cursor string) error {
		m := &portfoliov1.WatchAlertsResponse{Cursor: cursor}
		if len(c) > 0 {
			ids := make([]uuid.UUID, len(c))
			for i := range c {
				ids[i] = c[i].Subject
			}
			alerts, err := s.alerts.AlertsByID(ctx, owner, ids)
			if err != nil {
				return err
			}
			m.Alerts = alertsToProto(alerts)
		}
		return streams.Deliver(ctx, s.readerTimeout, func() error { return stream.Send(m) })
	})
	return err
}

const kindPrefix = "ALERT_KIND_"

// alertKindFromProto returns "" for none.
func alertKindFromProto(k portfoliov1.AlertKind) alert.Kind {
	if k == portfoliov1.AlertKind_ALERT_KIND_UNSPECIFIED {
		return ""
	}
	return alert.Kind(k.String()[len(kindPrefix):])
}

func alertKindToProto(k alert.Kind) portfoliov1.AlertKind {
	return portfoliov1.AlertKind(portfoliov1.AlertKind_value[kindPrefix+string(k)])
}

func ruleToProto(r alert.Rule) *portfoliov1.AlertRule {
	out := &portfoliov1.AlertRule{RuleId: r.ID.String(), Name: r.Name, PortfolioId: r.Portfolio.String(),
		Kind: alertKindToProto(r.Kind), Limit: plainToProto(r.Limit), TokenId: r.Token,
		Window: windowToProto(r.Window), Disabled: r.Disabled, State: portfoliov1.AlertState_ALERT_STATE_ARMED,
		Figure: r.State.Figure, LastFireTime: timeToProto(r.State.FiredAt), CreateTime: timestamppb.New(r.CreatedAt),
		UpdateTime: timestamppb.New(r.UpdatedAt), Etag: r.ETag()}
	if r.Kind != alert.Transfer {
		out.Hysteresis = plainToProto(r.Hysteresis)
	}
	if r.State.Fired {
		out.State = portfoliov1.AlertState_ALERT_STATE_FIRED
	}
	return out
}

// plainToProto returns a decimal as its owner wrote it, without an exponent.
func plainToProto(d *apd.Decimal) string {
	if d == nil {
		return ""
	}
	return d.Text('f')
}

func windowToProto(w time.Duration) *durationpb.Duration {
	if w == 0 {
		return nil
	}
	return durationpb.New(w)
}

func alertsToProto(alerts []alert.Alert) []*portfoliov1.Alert {
	out := make([]*portfoliov1.Alert, len(alerts))
	for i, a := range alerts {
		out[i] = alertToProto(a)
	}
	return out
}

func alertToProto(a alert.Alert) *portfoliov1.Alert {
	out := &portfoliov1.Alert{AlertId: a.ID.String(), RuleId: a.Rule.String(), RuleName: a.RuleName,
		PortfolioId: a.Portfolio.String(), Kind: alertKindToProto(a.Kind), TokenId: a.Token,
		Limit: plainToProto(a.Limit), Window: windowToProto(a.Window), Figure: a.Figure,
		FireTime: timestamppb.New(a.FiredAt), AcknowledgeTime: timeToProto(a.AcknowledgedAt)}
	for _, d := range a.Deliveries {
		m := &portfoliov1.AlertDelivery{EndpointId: d.Endpoint.String(), AttemptCount: int32(d.Attempts),
			LastError: d.LastError}
		switch {
		case d.Delivered:
			m.State = portfoliov1.DeliveryState_DELIVERY_STATE_DELIVERED
		case d.Dead:
			m.State = portfoliov1.DeliveryState_DELIVERY_STATE_DEAD
		default:
			m.State = portfoliov1.DeliveryState_DELIVERY_STATE_PENDING
			m.NextAttemptTime = timestamppb.New(d.Due)
		}
		out.Deliveries = append(out.Deliveries, m)
	}
	return out
}
