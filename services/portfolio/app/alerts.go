package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/seal"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/rpc"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

// AlertConfig is read from PURSER_ALERTS_*.
type AlertConfig struct {
	// Every is how often the rules of an owner are evaluated, beside the changes that the wallet service tells of; 1 s
	// to 1 h.
	Every time.Duration `env:"EVERY" envDefault:"30s"`
	// RulesPerOwner is how many rules a user may have, 1 to 10000.
	RulesPerOwner int `env:"RULES_PER_OWNER" envDefault:"100"`
	// Retention is how long alerts are kept, 1 h to 10 years.
	Retention time.Duration `env:"RETENTION" envDefault:"2160h"`
}

// Validate reports every error in c.
func (c AlertConfig) Validate() error {
	var found []error
	if c.Every < time.Second || c.Every > time.Hour {
		found = append(found, errors.New("PURSER_ALERTS_EVERY must be 1s to 1h"))
	}
	if c.RulesPerOwner < 1 || c.RulesPerOwner > 10_000 {
		found = append(found, errors.New("PURSER_ALERTS_RULES_PER_OWNER must be 1 to 10000"))
	}
	if c.Retention < time.Hour || c.Retention > 10*365*24*time.Hour {
		found = append(found, errors.New("PURSER_ALERTS_RETENTION must be 1h to 87600h"))
	}
	return errors.Join(found...)
}

// WebhookConfig is read from PURSER_WEBHOOKS_*.
type WebhookConfig struct {
	// KEK encrypts the secrets of endpoints: 32 bytes in base64, best from PURSER_WEBHOOKS_KEK_FILE. Without it there
	// are no webhooks.
	KEK config.Secret `env:"KEK"`
	// KEKPrevious is one that secrets may still be under.
	KEKPrevious config.Secret `env:"KEK_PREVIOUS"`
	// AllowHTTP lets endpoints have http URLs, for development.
	AllowHTTP bool `env:"ALLOW_HTTP" envDefault:"false"`
	// Allow are ranges of private addresses that webhooks may be posted to, such as 10.1.0.0/16.
	Allow []string `env:"ALLOW_ADDRESSES"`
	// GiveUpAfter is how long a webhook is tried, 1 m to 30 days.
	GiveUpAfter time.Duration `env:"GIVE_UP_AFTER" envDefault:"24h"`
}

// Validate reports every error in c.
func (c WebhookConfig) Validate() error {
	_, sealerErr := c.sealer()
	_, rulesErr := c.rules()
	found := []error{sealerErr, rulesErr}
	if c.GiveUpAfter < time.Minute || c.GiveUpAfter > 30*24*time.Hour {
		found = append(found, errors.New("PURSER_WEBHOOKS_GIVE_UP_AFTER must be 1m to 720h"))
	}
	return errors.Join(found...)
}

// sealer of the secrets; nil without a key.
func (c WebhookConfig) sealer() (*seal.Sealer, error) {
	if c.KEK == "" {
		if c.KEKPrevious != "" {
			return nil, errors.New("PURSER_WEBHOOKS_KEK_PREVIOUS is for a PURSER_WEBHOOKS_KEK that has replaced it, " +
				"which is not set")
		}
		return nil, nil //nolint:nilnil // there are no webhooks
	}
	current, previous, err := seal.Keys("PURSER_WEBHOOKS_KEK", c.KEK, c.KEKPrevious)
	if err != nil {
		return nil, err
	}
	return seal.New(current, previous...)
}

func (c WebhookConfig) rules() (webhook.Rules, error) {
	r := webhook.Rules{AllowHTTP: c.AllowHTTP}
	for _, text := range c.Allow {
		p, err := netip.ParsePrefix(text)
		if err != nil || p != p.Masked() {
			return r, fmt.Errorf("PURSER_WEBHOOKS_ALLOW_ADDRESSES must be ranges such as 10.1.0.0/16 or fd00::/8, "+
				"separated by commas, got %q", text)
		}
		r.Allow = append(r.Allow, p)
	}
	return r, nil
}

// alerts are the parts of the service that alerts are made of.
type alerts struct {
	store     *store.Alerts
	changes   *feed.Feed
	evaluator *alert.Evaluator // nil without an account of the service
	webhooks  *webhook.Service
}

// newAlerts adds to b the feed, what evaluates rules, and what posts webhooks.
func newAlerts(b *chassis.Builder, from alert.Sources, cfg Config) (*alerts, error) {
	sealer, err := cfg.Webhooks.sealer()
	if err != nil {
		return nil, err
	}
	rules, err := cfg.Webhooks.rules()
	if err != nil {
		return nil, err
	}
	a := &alerts{changes: feed.New(b.DB, b.Redis, name, b.Log)}
	a.store = store.NewAlerts(b.DB, a.changes.Wake)
	a.webhooks = webhook.NewService(a.store, rules, sealer, time.Now)
	b.Loop("changes", a.changes.Run)
	stored := func() {}
	if sealer != nil {
		d := webhook.NewDeliverer(a.store, webhook.NewSender(rules, nil), sealer, cfg.Webhooks.GiveUpAfter, b.Log,
			time.Now)
		stored = d.Wake
		b.Loop("webhooks", d.Run)
	} else {
		b.Log.Info("PURSER_WEBHOOKS_KEK is not set: there are no webhooks of alerts")
	}
	if from.AsSelf == nil {
		b.Log.Warn("PURSER_SERVICE_ID is not set: there are no alerts")
		return a, nil
	}
	a.evaluator = alert.NewEvaluator(a.store, from, cfg.Alerts.Every, b.Log, time.Now, stored)
	b.Loop("alert rules", a.evaluator.Run)
	return a, nil
}

// all marks all rules as due.
func (a *alerts) all() {
	if a.evaluator != nil {
		a.evaluator.MarkAllDue()
	}
}

// server of the contract.
func (a *alerts) server(portfolios *portfolio.Service, cfg Config) *rpc.AlertServer {
	wake := func() {}
	if a.evaluator != nil {
		wake = a.evaluator.Wake
	}
	return rpc.NewAlertServer(alert.NewService(a.store, portfolios, cfg.Alerts.RulesPerOwner, a.evaluator != nil,
		time.Now, wake), a.webhooks, a.changes, cfg.Changes)
}

// jobs delete what is old.
func (a *alerts) jobs(cfg Config) []chassis.Job {
	return []chassis.Job{
		{Job: a.changes.TrimJob(cfg.Changes)},
		{Job: jobs.Job{Name: "prune_alerts", Cron: "47 3 * * *", Timeout: pruneTimeout, CatchUp: jobs.CatchUpSkip,
			Run: func(ctx context.Context, _ *jobs.Run) error {
				return a.store.Prune(ctx, time.Now().Add(-cfg.Alerts.Retention))
			}}},
	}
}

// pruneTimeout bounds a run of prune_alerts; what is left is for the next one.
const pruneTimeout = 10 * time.Minute
