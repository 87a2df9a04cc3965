package authn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// issueTimeout bounds one call of the issuer; retryIssueAfter is the time from
	// a call that failed to the next.
	issueTimeout    = 10 * time.Second
	retryIssueAfter = time.Second
	// minForgetAge is the age below which Forget keeps a token, so that a service
	// that refuses every token doesn't cause a fetch for each call.
	minForgetAge = 10 * time.Second
)

// IssueToken calls the issuer for a token of a service account, as with
// purser.auth.v1.SessionService/IssueServiceAccountToken. Its context carries no
// caller, so that no user's token is forwarded to the issuer.
type IssueToken func(ctx context.Context) (token string, expires time.Time, err error)

// ServiceTokens holds an access token of a service account and renews it. It
// promises: a new token is fetched when between two thirds and four fifths of
// the old one's lifetime have passed, by one call for all callers of Token;
// until that succeeds the old token is returned while it is valid, and then
// errs.Unavailable (AUTH_UNAVAILABLE), which says for how long the issuer has
// been unavailable.
//
// It fetches only within Token: nothing runs in the background. It is safe for
// concurrent use.
type ServiceTokens struct {
	issue IssueToken
	now   func() time.Time

	mu            sync.Mutex
	token         string
	fetchedAt     time.Time
	expiresAt     time.Time
	renewAt       time.Time
	failingSince  time.Time // zero after a success
	retryAt       time.Time // no call before; set by a failure
	lastError     error
	fetchDone     chan struct{} // closed when the call in progress ends; nil when none is
	renewFraction func() float64
}

// NewServiceTokens returns ServiceTokens that get their tokens from issue. now is
// the clock; time.Now when nil. Nothing is called yet.
func NewServiceTokens(issue IssueToken, now func() time.Time) *ServiceTokens {
	if now == nil {
		now = time.Now
	}
	return &ServiceTokens{issue: issue, now: now, renewFraction: func() float64 {
		// at random, so that replicas that start together don't fetch together
		return 2./3 + (4./5-2./3)*rand.Float64()
	}}
}

// Token returns a token that is valid now. The error is errs.Unavailable
// (AUTH_UNAVAILABLE) when there is none and the issuer is unavailable or refuses
// the account, or ctx's own.
func (s *ServiceTokens) Token(ctx context.Context) (string, error) {
	for {
		s.mu.Lock()
		now := s.now()
		valid := s.token != "" && now.Before(s.expiresAt)
		if s.fetchDone == nil && (!valid || !now.Before(s.renewAt)) && !now.Before(s.retryAt) {
			s.fetchDone = make(chan struct{})
			// Without a caller and a deadline: others wait for this token too.
			go s.fetch(WithCaller(context.WithoutCancel(ctx), Caller{}), s.fetchDone)
		}
		token, fetchDone, unavailable := s.token, s.fetchDone, s.unavailable(now)
		s.mu.Unlock()
		switch {
		case valid:
			return token, nil
		case fetchDone == nil:
			return "", unavailable
		}
		select {
		case <-fetchDone:
		case <-ctx.Done():
			return "", fmt.Errorf("wait for a service token: %w", ctx.Err())
		}
	}
}

// Forget drops a token that a service has refused although it has not expired,
// because it was revoked; the next Token fetches another. It does nothing when
// the current token is another one or is less than ten seconds old.
func (s *ServiceTokens) Forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token == s.token && s.now().Sub(s.fetchedAt) >= minForgetAge {
		s.token = ""
	}
}

// unavailable returns the error of Token when there is no valid token.
func (s *ServiceTokens) unavailable(now time.Time) error {
	cause := s.lastError
	if cause == nil {
		cause = errors.New("no token was requested yet")
	}
	message := fmt.Sprintf("auth has been unavailable for %s and gives no token",
		now.Sub(s.failingSince).Round(time.Second))
	if errs.Is(cause, errs.KindUnauthenticated) {
		message = "auth refuses the secret of this service"
	}
	return errs.Unavailable("AUTH_UNAVAILABLE",
		message).Because(cause).After(max(s.retryAt.Sub(now), 100*time.Millisecond))
}

func (s *ServiceTokens) fetch(ctx context.Context, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	begun := s.now()
	token, expires, err := s.issue(ctx)
	now := s.now()
	if err == nil && (token == "" || !now.Before(expires)) {
		err = errors.New("authn: the issuer returned an empty or expired token")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(done)
	s.fetchDone = nil
	if err != nil {
		if s.failingSince.IsZero() {
			s.failingSince = begun
		}
		s.lastError, s.retryAt = err, now.Add(retryIssueAfter)
		return
	}
	s.token, s.fetchedAt, s.expiresAt = token, now, expires
	s.renewAt = now.Add(time.Duration(float64(expires.Sub(now)) * s.renewFraction()))
	s.failingSince, s.lastError, s.retryAt = time.Time{}, nil, time.Time{}
}
