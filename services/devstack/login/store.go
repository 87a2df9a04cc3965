package login

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// store is the state of the provider, in memory. It implements op.Storage; methods of flows that the
// provider does not offer are in oidc_types.go.
type store struct {
	client
	key *ecdsa.PrivateKey
	id  string

	mu       sync.Mutex
	requests map[string]*request // by id
	codes    map[string]string   // id by code
	tokens   map[string]string   // subject by id
}

func newStore(redirectURIs []string) (*store, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	return &store{
		client: client{redirectURIs}, key: key, id: rand.Text(),
		requests: map[string]*request{}, codes: map[string]string{}, tokens: map[string]string{},
	}, nil
}

// approve sets the user of a request; false if the request is unknown.
func (s *store) approve(id string, user User) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if ok {
		r.user, r.at = user, time.Now()
	}
	return ok
}

var errUnknown = errors.New("login: unknown")

func (s *store) CreateAuthRequest(_ context.Context, r *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	made := &request{AuthRequest: r, id: rand.Text()}
	s.requests[made.id] = made
	return made, nil
}

func (s *store) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.requests[id]; ok {
		return r, nil
	}
	return nil, errUnknown
}

// AuthRequestByCode returns the request of a code, which is valid once.
func (s *store) AuthRequestByCode(ctx context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	id := s.codes[code]
	delete(s.codes, code)
	s.mu.Unlock()
	return s.AuthRequestByID(ctx, id)
}

func (s *store) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

func (s *store) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

func (s *store) CreateAccessToken(_ context.Context, r op.TokenRequest) (string, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := rand.Text()
	s.tokens[id] = r.GetSubject()
	return id, time.Now().Add(5 * time.Minute), nil
}

func (s *store) SetUserinfoFromToken(_ context.Context, info *oidc.UserInfo, tokenID, _, _ string) error {
	s.mu.Lock()
	subject := s.tokens[tokenID]
	s.mu.Unlock()
	return setUserinfo(info, subject)
}

// SetUserinfoFromRequest adds the e-mail address to the ID token.
func (s *store) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, r op.IDTokenRequest, _ []string) error {
	return setUserinfo(info, r.GetSubject())
}

func setUserinfo(info *oidc.UserInfo, subject string) error {
	u, ok := userBy(func(u User) bool { return u.Subject == subject })
	if !ok {
		return errUnknown
	}
	info.Subject, info.Email, info.EmailVerified, info.Name = u.Subject, u.Email, oidc.Bool(u.Verified), u.Name
	return nil
}

func (s *store) SigningKey(context.Context) (op.SigningKey, error) { return private{s}, nil }

func (s *store) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

func (s *store) KeySet(context.Context) ([]op.Key, error) { return []op.Key{public{s}}, nil }

func (s *store) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != ClientID {
		return nil, errUnknown
	}
	return s.client, nil
}

func (s *store) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if id != ClientID || subtle.ConstantTimeCompare([]byte(secret), []byte(ClientSecret)) != 1 {
		return errUnknown
	}
	return nil
}

func (s *store) Health(context.Context) error { return nil }

// private and public are the signing key as op.SigningKey and op.Key.
type (
	private struct{ *store }
	public  struct{ *store }
)

func (k private) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k private) Key() any                                    { return k.key }
func (k private) ID() string                                  { return k.id }

func (k public) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k public) Use() string                        { return "sig" }
func (k public) Key() any                           { return k.key.Public() }
func (k public) ID() string                         { return k.id }
