package rpc

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// callersPortfolio is the access check of every method, see the function of this name.
func (s *PortfolioServer) callersPortfolio(ctx context.Context, portfolioID string) (portfolio.Portfolio, error) {
	return callersPortfolio(ctx, s.portfolios, portfolioID)
}

// callersPortfolio is the access check of every method: it returns the portfolio of
// the caller with this id, or the caller's default portfolio for "". Another user's
// portfolio is NOT_FOUND, as one that doesn't exist; the store's query has the
// owner as a condition. The permission was checked before, by the rule of the method
// in the contract.
func callersPortfolio(ctx context.Context, portfolios *portfolio.Service, portfolioID string) (portfolio.Portfolio,
	error) {
	var id uuid.UUID
	if portfolioID != "" {
		var err error
		if id, err = uuid.Parse(portfolioID); err != nil {
			return portfolio.Portfolio{}, errs.Invalid("portfolio_id", "must be a UUID")
		}
		if id == uuid.Nil { // which means the default portfolio to Find
			return portfolio.Portfolio{}, errs.NotFound("portfolio " + portfolioID).
				ListedBy("PortfolioService.ListPortfolios")
		}
	}
	return portfolios.Find(ctx, authn.CallerFrom(ctx).UserID, id)
}

// readAhead returns a context with which callersPortfolio, and what the portfolio is worth now, ask the cache once.
func (s *PortfolioServer) readAhead(ctx context.Context, portfolioID string) context.Context {
	id, err := uuid.Parse(portfolioID)
	if err != nil && portfolioID != "" {
		return ctx
	}
	return s.portfolios.ReadAhead(ctx, authn.CallerFrom(ctx).UserID, id)
}
