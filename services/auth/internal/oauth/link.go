package oauth

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/identity"
)

// LinkState is a link that was started: which session of whom it is for.
type LinkState struct {
	State
	User, Session uuid.UUID
}

// StartLink starts to link an account at a provider to that of a user, for their session. Errors as Start.
func (s *Service) StartLink(ctx context.Context, user, session uuid.UUID, provider, redirectURI string) (Started,
	error) {
	if err := s.checkRedirect(redirectURI); err != nil {
		return Started{}, err
	}
	started, st, err := s.request(ctx, provider, redirectURI)
	if err != nil {
		return Started{}, err
	}
	started.ExpiresAt, err = s.links.Put(ctx, started.State, LinkState{State: st, User: user, Session: session})
	return started, err
}

// FinishLink links the account at the provider to that of the user who started in this session. Links are stored apart
// from sign-ins, so neither is found where the other is looked for. errs.Unauthenticated: OAUTH_STATE_INVALID, or as
// Provider.Identify; otherwise as identity.Service.Add.
func (s *Service) FinishLink(ctx context.Context, user, session uuid.UUID, c Callback) (linked identity.Identity,
	err error) {
	err = s.links.Use(ctx, c.State, errState(), func(st LinkState) error {
		if st.User != user || st.Session != session || !s.fromInitiator(st.State, c) {
			return errState()
		}
		claim, err := s.claim(ctx, st.State, c)
		if err != nil {
			return err
		}
		linked, err = s.Identities.Add(ctx, user, claim)
		return err
	})
	e := errs.As(err)
	if e == nil || e.Kind != errs.KindUnauthenticated && e.Kind != errs.KindAlreadyExists {
		return linked, err
	}
	event := audit.Event{Type: audit.IdentityLinked, Outcome: audit.Refused, Reason: e.Reason, Actor: user,
		Subject: user}
	if failed := s.Audit.Record(ctx, event); failed != nil {
		return linked, failed
	}
	return linked, err
}
