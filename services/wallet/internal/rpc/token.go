package rpc

import (
	"context"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// TokenServer serves purser.wallet.v1.TokenService.
type TokenServer struct {
	walletv1.UnimplementedTokenServiceServer
	tokens token.Store
	chains *chainlist.Service
	resets *chainreset.Guard
}

// NewTokenServer serves tokens and the chains that they are on.
func NewTokenServer(t token.Store, c *chainlist.Service, r *chainreset.Guard) *TokenServer {
	return &TokenServer{tokens: t, chains: c, resets: r}
}

// GetToken implements the RPC.
func (s *TokenServer) GetToken(ctx context.Context, req *walletv1.GetTokenRequest) (*walletv1.GetTokenResponse,
	error) {
	asset, err := caip.ParseAsset(req.GetTokenId())
	if err != nil {
		return nil, errs.Invalid("token_id", err.Error())
	}
	t, err := s.tokens.ByID(ctx, asset.String())
	if err != nil {
		return nil, err
	}
	return &walletv1.GetTokenResponse{Token: tokenToProto(t)}, nil
}

// ListTokens implements the RPC.
func (s *TokenServer) ListTokens(ctx context.Context, req *walletv1.ListTokensRequest) (*walletv1.ListTokensResponse,
	error) {
	chain, err := chainOf(req)
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListTokens", req.GetChainId())
	after, _, err := page.Parse[string](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if err := checkCursor(after); err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultRowsPerPage, maxRowsPerPage)
	tokens, err := s.tokens.List(ctx, chain, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, tokens, limit, func(t token.Token) string { return t.ID },
		tokenToProto)
	if err != nil {
		return nil, err
	}
	return &walletv1.ListTokensResponse{Tokens: onPage, NextPageToken: next}, nil
}
