package app

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/services/auth/internal/deletion"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/internal/chassis"
)

// unerasedTimeout bounds the query of the metric.
const unerasedTimeout = 2 * time.Second

// newDeletions wires the deletion of accounts, and the metric of what services have not erased yet.
func newDeletions(b *chassis.Builder, accounts *store.Accounts, texts *mail.Texts) (*deletion.Service, error) {
	deletions := store.NewDeletions(accounts)
	meter := otel.Meter("github.com/purserhq/purser/services/auth")
	age, err := meter.Float64ObservableGauge("account_unerased_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest deletion of an account whose data a service has not erased."))
	if err != nil {
		return nil, fmt.Errorf("metric of deletions: %w", err)
	}
	registration, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, unerasedTimeout)
		defer cancel()
		ages, err := deletions.Unerased(ctx)
		for name, unerased := range ages {
			o.ObserveFloat64(age, unerased.Seconds(),
				metric.WithAttributes(attribute.String("service_account", name)))
		}
		return err
	}, age)
	if err != nil {
		return nil, fmt.Errorf("metric of deletions: %w", err)
	}
	b.OnClose("metric of deletions", func() { _ = registration.Unregister() })
	return deletion.NewService(deletions, texts, time.Now), nil
}
