package gains

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Record stores from which lots the next disposal takes. errs.Invalid, errs.NotFound for a wallet of which nothing is
// known; errs.FailedPrecondition (DISPOSED_ALREADY, LOT_NOT_AVAILABLE); errors of Read and of Store.Identify.
func (s *Service) Record(ctx context.Context, p portfolio.Portfolio, i Identification, o Options,
	request uuid.UUID) (Identification, error) {
	fields := []string{i.Wallet, i.Token, i.Hash}
	for _, pick := range i.Picks {
		fields = append(fields, pick.Lot, pick.Quantity.String())
	}
	r := requests.New(request, "IdentifyLots", fields...)
	if earlier, answered, err := s.store.Answered(ctx, p.Owner, r); err != nil || answered {
		return earlier, err
	}
	o.Method = Specific
	read, err := s.Read(ctx, portfolio.Portfolio{Owner: p.Owner, Default: true}, o)
	if err != nil {
		return i, err
	}
	if err := read.allows(i); err != nil {
		return i, err
	}
	if p, err = s.ofPortfolio(ctx, p, i.Wallet); err != nil {
		return i, err
	}
	if i.ID, err = uuid.NewV7(); err != nil {
		return i, fmt.Errorf("new id: %w", err)
	}
	i.Owner = p.Owner
	return s.store.Identify(ctx, i, r)
}

// ofPortfolio refuses a wallet that a portfolio with some wallets hasn't.
func (s *Service) ofPortfolio(ctx context.Context, p portfolio.Portfolio, wallet string) (portfolio.Portfolio, error) {
	if p.Default {
		return p, nil
	}
	m, err := s.members.Now(ctx, p)
	if err == nil && !slices.ContainsFunc(m.Membership.Wallets,
		func(id uuid.UUID) bool { return id.String() == wallet }) {
		err = errs.NotFound("wallet " + wallet)
	}
	return p, err
}

// allows refuses what can't be recorded.
func (r *Result) allows(i Identification) error {
	moved, there, of := false, map[string]*big.Int{}, r.Options.assets.Of(i.Token)
	for asset, events := range r.events {
		for n := range events {
			e := &events[n]
			if e.Wallet != i.Wallet && e.To != i.Wallet {
				continue
			}
			moved = true
			if asset == of && i.Hash != "" && e.Hash == i.Hash && e.Kind == lots.Dispose && e.Cause != PaidFee {
				at := e.Time.UTC().Format(time.RFC3339)
				return errs.FailedPrecondition("DISPOSED_ALREADY", fmt.Sprintf("transaction %s disposed of the token "+
					"at %s: lots are identified before a disposal or at its time, and not changed after it", i.Hash,
					at)).With("dispose_time", at)
			}
		}
	}
	if !moved {
		return errs.NotFound("wallet " + i.Wallet).ListedBy("WalletService.ListWallets")
	}
	for _, o := range r.open[of] {
		if o.Wallet == i.Wallet || !r.byWallet() {
			there[o.ID] = o.Quantity
		}
	}
	for _, p := range i.Picks {
		switch has := there[p.Lot]; {
		case has == nil:
			return errs.FailedPrecondition("LOT_NOT_AVAILABLE", "the wallet has no open lot "+p.Lot+" of the token; "+
				"LotService.ListLots lists them").With("lot_id", p.Lot)
		case has.Cmp(p.Quantity) < 0:
			return errs.FailedPrecondition("LOT_NOT_AVAILABLE", fmt.Sprintf("lot %s has %s base units now, got %s",
				p.Lot, has, p.Quantity)).With("lot_id", p.Lot)
		}
	}
	return nil
}
