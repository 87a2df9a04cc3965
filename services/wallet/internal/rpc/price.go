package rpc

import (
	"context"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/price"
)

// PriceServer serves purser.wallet.v1.PriceService.
type PriceServer struct {
	walletv1.UnimplementedPriceServiceServer
	prices *price.Service
}

// NewPriceServer serves prices.
func NewPriceServer(p *price.Service) *PriceServer { return &PriceServer{prices: p} }

// GetPrices implements the RPC.
func (s *PriceServer) GetPrices(ctx context.Context, req *walletv1.GetPricesRequest) (*walletv1.GetPricesResponse,
	error) {
	ids, err := assets(req.GetTokenIds())
	if err != nil {
		return nil, err
	}
	quotes, err := s.prices.LookUp(ctx, ids)
	if err != nil {
		return nil, err
	}
	resp := &walletv1.GetPricesResponse{}
	for _, id := range ids {
		resp.Prices = append(resp.Prices, quoteToProto(quotes[id]))
	}
	return resp, nil
}
