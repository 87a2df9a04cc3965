package holdings

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Markets returns what the owner's wallets have in protocols now, and the wallets. Errors are those of Current.
func (r *Reader) Markets(ctx context.Context, owner uuid.UUID) ([]valuation.Wallet, []valuation.Market, error) {
	held, err := r.read(ctx, owner)
	return held.wallets, held.markets, err
}

// markets returns what a wallet has in protocols.
func (a assets) markets(w *walletv1.WalletHoldings) ([]valuation.Market, error) {
	if len(w.GetPositions()) == 0 {
		return nil, nil
	}
	out := make([]valuation.Market, len(w.GetPositions()))
	for i, m := range w.GetPositions() {
		market := valuation.Market{WalletID: w.GetWalletId(), Account: w.GetAccount(), Protocol: m.GetProtocol(),
			ID: m.GetMarket(), Complete: m.GetComplete(), Missing: m.GetMissing(),
			Positions: make([]valuation.ProtocolPosition, len(m.GetPositions()))}
		for j, p := range m.GetPositions() {
			position, err := a.position(p)
			if err != nil {
				return nil, err
			}
			position.WalletID, position.Account = market.WalletID, market.Account
			market.Positions[j] = position
		}
		var err error
		if market.Lending, err = lendingAccountFromProto(m.GetAccount()); err != nil {
			return nil, err
		}
		out[i] = market
	}
	return out, nil
}

// position leaves a token that isn't known without decimals and price, as the wallet service does.
func (a assets) position(p *walletv1.Position) (valuation.ProtocolPosition, error) {
	amount, err := baseUnits("amount of a position of "+p.GetTokenId(), p.GetAmount())
	if err != nil {
		return valuation.ProtocolPosition{}, err
	}
	held, known := a[p.GetTokenId()]
	if !known {
		held = valuation.Holding{TokenID: p.GetTokenId(),
			Price: valuation.Price{UnpricedReason: valuation.ReasonUnknownToken}}
	}
	held.Amount = amount
	out := valuation.ProtocolPosition{Holding: held, Known: known, Kind: kindFromProto(p.GetKind()),
		Receipt: p.GetReceiptTokenId(), YearlyRate: p.GetYearlyRate(), Collateral: p.GetCollateral(),
		Block: p.GetBlockNumber(), BlockTime: timeOf(p.GetBlockTime())}
	if p.GetRateMode() != walletv1.RateMode_RATE_MODE_UNSPECIFIED {
		out.RateMode = strings.TrimPrefix(p.GetRateMode().String(), "RATE_MODE_")
	}
	return out, nil
}

// kindFromProto returns "" for a kind of a later release of the wallet service.
func kindFromProto(k walletv1.PositionKind) valuation.PositionKind {
	return map[walletv1.PositionKind]valuation.PositionKind{
		walletv1.PositionKind_POSITION_KIND_SUPPLIED:  valuation.Supplied,
		walletv1.PositionKind_POSITION_KIND_BORROWED:  valuation.Borrowed,
		walletv1.PositionKind_POSITION_KIND_STAKED:    valuation.Staked,
		walletv1.PositionKind_POSITION_KIND_LIQUIDITY: valuation.Liquidity,
		walletv1.PositionKind_POSITION_KIND_CLAIMABLE: valuation.Claimable,
		walletv1.PositionKind_POSITION_KIND_LOCKED:    valuation.Locked,
	}[k]
}

func lendingAccountFromProto(a *walletv1.LendingAccount) (*valuation.LendingAccount, error) {
	if a == nil {
		return nil, nil //nolint:nilnil // a market without one
	}
	out := &valuation.LendingAccount{Threshold: a.GetLiquidationThreshold(), Health: a.GetHealthFactor(),
		HealthUnavailable: a.GetHealthUnavailableReason(), EMode: a.GetEMode(), Block: a.GetBlockNumber(),
		BlockTime: timeOf(a.GetBlockTime())}
	for _, n := range []struct {
		what, text string
		to         **big.Int
	}{
		{"collateral", a.GetCollateral(), &out.Collateral}, {"debt", a.GetDebt(), &out.Debt},
		{"unit", a.GetUnit(), &out.Unit},
	} {
		var err error
		if *n.to, err = baseUnits(n.what+" of a lending account", n.text); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maxDigits is how many digits a number of 256 bits has.
const maxDigits = 78

// baseUnits reads a number that is not below 0.
func baseUnits(what, text string) (*big.Int, error) {
	if n, ok := amountOf(text[:min(len(text), maxDigits+1)]); ok && len(text) <= maxDigits && n.Sign() >= 0 {
		return n, nil
	}
	return nil, errs.Internal(fmt.Errorf("%s: must be a whole number of at least 0 and at most %d digits, %s", what,
		maxDigits, errs.Given(text)))
}

// timeOf returns the zero time for none.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
