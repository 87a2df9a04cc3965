package rpc

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// TokenServer serves purser.auth.v1.TokenService.
type TokenServer struct {
	authv1.UnimplementedTokenServiceServer
	ring *signing.Ring
}

// NewTokenServer serves the ring's keys.
func NewTokenServer(r *signing.Ring) *TokenServer { return &TokenServer{ring: r} }

// GetJwks implements the RPC.
func (s *TokenServer) GetJwks(context.Context, *authv1.GetJwksRequest) (*authv1.GetJwksResponse, error) {
	set, ok := s.ring.Published()
	if !ok {
		return nil, errs.Unavailable("JWKS_UNAVAILABLE", "no key set is known now")
	}
	resp := &authv1.GetJwksResponse{Epoch: set.Epoch, MaxAge: durationpb.New(set.MaxAge)}
	for _, k := range set.Keys {
		public, ok := k.Key.(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("key %s is a %T", k.KeyID, k.Key)
		}
		resp.Keys = append(resp.Keys, &authv1.JsonWebKey{
			Kid: k.KeyID, Kty: "OKP", Alg: k.Algorithm, Use: k.Use, Crv: "Ed25519",
			X: base64.RawURLEncoding.EncodeToString(public),
		})
	}
	return resp, nil
}
