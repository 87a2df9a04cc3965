// Package webhook posts alerts to the endpoints of their owners.
//
// It promises: an alert is posted to each endpoint that its owner had when it fired until the endpoint has answered
// with a status of 200 to 299, or GiveUpAfter has passed, which is told; each time with the same id and body, signed
// anew as the Standard Webhooks specification has it. Whether an address may be connected to is checked when the
// connection is made, so that a name that resolves to another address then doesn't help; redirects aren't followed,
// and no proxy of the environment is used. An endpoint that is slow or down holds up only its own.
//
// Limits: at least once. A message whose answer was lost, or came after the time limit, is posted again: receivers
// recognise it by its id. Messages may come in another order than they fired in.
//
// Source: Standard Webhooks 1.0.0, https://github.com/standard-webhooks/standard-webhooks.
package webhook

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/internal/seal"
)

const (
	// MaxEndpoints is how many an owner may have, which the contract states.
	MaxEndpoints = 10
	// Overlap is how long messages are signed with the secret before the present one too.
	Overlap = 24 * time.Hour
	// secretBytes is the length of a secret, and secretPrefix what it is written with.
	secretBytes, secretPrefix = 32, "whsec_"
)

// Sealed is an encrypted secret, and the key that it is encrypted with, wrapped.
type Sealed struct{ Text, Key []byte }

// Endpoint is where alerts are posted to.
type Endpoint struct {
	ID, Owner uuid.UUID
	URL       string
	CreatedAt time.Time
	Secret    Sealed
	// Previous was the secret before, and is used too until PreviousUntil; zero without one.
	Previous      Sealed
	PreviousUntil time.Time
}

// Store stores endpoints. Every method takes the owner: what is another owner's is errs.NotFound.
type Store interface {
	// CreateEndpoint stores an endpoint, and returns it without its secrets; made is false if an earlier call with the
	// request did. The owner then has at most limit: errs.Exhausted (TOO_MANY_WEBHOOK_ENDPOINTS).
	CreateEndpoint(ctx context.Context, e Endpoint, limit int, r *requests.Request) (made bool, _ Endpoint, err error)
	Endpoint(ctx context.Context, owner, id uuid.UUID) (Endpoint, error)
	Endpoints(ctx context.Context, owner uuid.UUID) ([]Endpoint, error)
	// Rotate gives an endpoint another secret; the one that it had becomes the previous one until a time.
	Rotate(ctx context.Context, owner, id uuid.UUID, secret Sealed, until time.Time) (Endpoint, error)
	DeleteEndpoint(ctx context.Context, owner, id uuid.UUID) error
}

// Service makes and changes endpoints. It is safe for concurrent use.
type Service struct {
	Store
	rules  Rules
	sealer *seal.Sealer
	now    func() time.Time
}

// NewService returns the service. Without a sealer no endpoint can be made.
func NewService(s Store, r Rules, sealer *seal.Sealer, now func() time.Time) *Service {
	return &Service{Store: s, rules: r, sealer: sealer, now: now}
}

// CheckURL returns errs.Invalid on url for one that no message may be posted to.
func (s *Service) CheckURL(text string) error { return s.rules.CheckURL(text) }

// Create adds an endpoint, and returns it with its secret, which is "" if an earlier call with the request has
// returned it: errs.Invalid on url, errs.Exhausted, errs.FailedPrecondition (WEBHOOKS_NOT_CONFIGURED).
func (s *Service) Create(ctx context.Context, owner uuid.UUID, url string, request uuid.UUID) (Endpoint, string,
	error) {
	if err := s.CheckURL(url); err != nil {
		return Endpoint{}, "", err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("new endpoint id: %w", err)
	}
	text, sealed, err := s.newSecret(owner, id)
	if err != nil {
		return Endpoint{}, "", err
	}
	made, e, err := s.CreateEndpoint(ctx, Endpoint{ID: id, Owner: owner, URL: url, Secret: sealed,
		CreatedAt: s.now().UTC().Truncate(time.Microsecond)}, MaxEndpoints,
		requests.New(request, "CreateWebhookEndpoint", url))
	if err != nil || !made {
		return e, "", err
	}
	return e, text, nil
}

// RotateSecret gives an endpoint another secret, and returns that: errs.FailedPrecondition as Create.
func (s *Service) RotateSecret(ctx context.Context, owner, id uuid.UUID) (Endpoint, string, error) {
	text, sealed, err := s.newSecret(owner, id)
	if err != nil {
		return Endpoint{}, "", err
	}
	e, err := s.Rotate(ctx, owner, id, sealed, s.now().UTC().Add(Overlap).Truncate(time.Microsecond))
	if err != nil {
		return e, "", err
	}
	return e, text, nil
}

// newSecret makes a secret of an endpoint.
func (s *Service) newSecret(owner, id uuid.UUID) (text string, sealed Sealed, err error) {
	if s.sealer == nil {
		return "", Sealed{}, errs.FailedPrecondition("WEBHOOKS_NOT_CONFIGURED", "this deployment has no webhooks: "+
			"PURSER_WEBHOOKS_KEK, the key that their secrets are encrypted with, is not set")
	}
	secret := make([]byte, secretBytes)
	if _, err := rand.Read(secret); err != nil {
		return "", Sealed{}, fmt.Errorf("new secret: %w", err)
	}
	sealed.Text, sealed.Key, err = s.sealer.Seal(secret, aad(owner, id))
	if err != nil {
		return "", Sealed{}, fmt.Errorf("encrypt a secret: %w", err)
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(secret), sealed, nil
}

// aad names the row of a secret.
func aad(owner, id uuid.UUID) []byte { return []byte("webhook " + owner.String() + " " + id.String()) }

// secrets returns those that a message to an endpoint is signed with, the present one first. One before that can't be
// opened is left out: the owner of such an endpoint is told to rotate its secret, which has to help at once.
func (e Endpoint) secrets(s *seal.Sealer, now time.Time) ([][]byte, error) {
	secret, err := s.Open(e.Secret.Text, e.Secret.Key, aad(e.Owner, e.ID))
	if err != nil {
		return nil, fmt.Errorf("the secret of an endpoint: %w", err)
	}
	secrets := [][]byte{secret}
	if now.Before(e.PreviousUntil) {
		if before, err := s.Open(e.Previous.Text, e.Previous.Key, aad(e.Owner, e.ID)); err == nil {
			secrets = append(secrets, before)
		}
	}
	return secrets, nil
}
