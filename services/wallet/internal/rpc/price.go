package rpc

import (
	"context"
	"fmt"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/caip"
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
	ids := make([]string, len(req.GetTokenIds()))
	for i, text := range req.GetTokenIds() {
		asset, err := caip.ParseAsset(text)
		if err != nil {
			return nil, errs.Invalid(fmt.Sprintf("token_ids[%d]", i), err.Error())
		}
		ids[i] = asset.String()
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
