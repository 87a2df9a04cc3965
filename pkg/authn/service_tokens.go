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
	// issueTimeout bounds one call of the issuer, issueRest is how long it is
	// left alone after one that failed.
	issueTimeout = 10 * time.Second
	issueRest    = time.Second
	// forgetAfter is how old a token is at least when it is forgotten, so that
	// a service that refuses every token doesn't have one fetched for each call.
	forgetAfter = 10 * time.Second
)

// Issue asks the issuer for a token of a service account, such as
// purser.auth.v1.SessionService/IssueServiceToken does. Its context is of no
// caller, whoever the token was asked for by.
type Issue func(ctx context.Context) (token string, expires time.Time, err error)

// ServiceTokens keeps an access token of a service account at hand. It promises:
// a new one is fetched when two thirds to four fifths of the old one's time are
// over, by one call however many ask; until that succeeds the old one serves,
// as long as it is good; then, rather than a token that is not, callers get
// UNAVAILABLE (AUTH_UNAVAILABLE), which says for how long the issuer has been
// away.
//
// It fetches only when it is asked for a token. It is safe for concurrent use.
type ServiceTokens struct {
	issue Issue
	now   func() time.Time

	mu        sync.Mutex
	token     string
	fetched   time.Time
	expires   time.Time
	renewAt   time.Time
	failing   time.Time     // since when; zero while it doesn't
	retryAt   time.Time     // after a failure
	failure   error         // the last
	fetching  chan struct{} // closed when the call under way ends; nil without one
	renewPart func() float64
}

// NewServiceTokens returns tokens that issue gives, by the clock now; time.Now
// when nil. Nothing is called yet.
func NewServiceTokens(issue Issue, now func() time.Time) *ServiceTokens {
	if now == nil {
		now = time.Now
	}
	return &ServiceTokens{issue: issue, now: now, renewPart: func() float64 {
		return 2./3 + (4./5-2./3)*rand.Float64() // replicas that start together don't fetch together
	}}
}

// Token returns a token that is good now. errs.Unavailable: AUTH_UNAVAILABLE
// when there is none and the issuer is away or refuses the account.
func (s *ServiceTokens) Token(ctx context.Context) (string, error) {
	for {
		s.mu.Lock()
		now := s.now()
		good := s.token != "" && now.Before(s.expires)
		if s.fetching == nil && (!good || !now.Before(s.renewAt)) && !now.Before(s.retryAt) {
			s.fetching = make(chan struct{})
			// In nobody's name: others wait for this token too.
			go s.fetch(WithCaller(context.WithoutCancel(ctx), Caller{}), s.fetching)
		}
		token, fetching, away := s.token, s.fetching, s.away(now)
		s.mu.Unlock()
		switch {
		case good:
			return token, nil
		case fetching == nil:
			return "", away
		}
		select {
		case <-fetching:
		case <-ctx.Done():
			return "", fmt.Errorf("wait for a service token: %w", ctx.Err())
		}
	}
}

// Forget drops a token that a service refused before its time, for it was
// revoked: the next Token fetches another. One that was fetched within the last
// ten seconds stays, and so does another one than that at hand.
func (s *ServiceTokens) Forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if token == s.token && s.now().Sub(s.fetched) >= forgetAfter {
		s.token = ""
	}
}

// away says that there is no token, since when, and why.
func (s *ServiceTokens) away(now time.Time) error {
	cause := s.failure
	if cause == nil {
		cause = errors.New("never asked")
	}
	message := fmt.Sprintf("auth gives no token and has been away for %s", now.Sub(s.failing).Round(time.Second))
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
		err = errors.New("authn: the issuer gave a token that is no good")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(done)
	s.fetching = nil
	if err != nil {
		if s.failing.IsZero() {
			s.failing = begun
		}
		s.failure, s.retryAt = err, now.Add(issueRest)
		return
	}
	s.token, s.fetched, s.expires = token, now, expires
	s.renewAt = now.Add(time.Duration(float64(expires.Sub(now)) * s.renewPart()))
	s.failing, s.failure, s.retryAt = time.Time{}, nil, time.Time{}
}
