package rpc

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/ownership"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Check looks at a message beside the rules of its contract, so that a caller learns
// of all mistakes at once; see grpcserver.Server.CheckMessages. The methods and the
// domain packages apply the same rules again.
func Check(m proto.Message) error {
	switch r := m.(type) {
	case *walletv1.CreateWalletRequest:
		c, err := creationFromProto(r)
		return errs.AllInvalid(c.Check(), err)
	case *walletv1.UpdateWalletRequest:
		_, err := wallet.NewLabel(r.GetLabel())
		_, wrongID := requests.ID(r)
		return errs.AllInvalid(err, checkMask(r), wrongID)
	case *walletv1.FinishOwnershipProofRequest:
		_, err := ownership.CheckSignature(r.GetSignature())
		_, wrongID := requests.ID(r)
		return errs.AllInvalid(err, wrongID)
	case *walletv1.GetPricesRequest:
		_, err := pricedIDs(r.GetTokenIds())
		return errs.AllInvalid(err, checkCurrency(r.GetCurrency()))
	case *walletv1.ListPriceHistoryRequest:
		return checkPriceHistory(r)
	case *walletv1.GetTokenRequest:
		if _, err := caip.ParseAsset(r.GetTokenId()); err != nil {
			return errs.Invalid("token_id", err.Error())
		}
	case *walletv1.ListTokensRequest:
		_, err := chainOf(r)
		return err
	case *walletv1.ListHistoricalBalancesRequest:
		if r.GetAtTime() != nil { // or the contract says so
			return checkAtTime(r.GetAtTime(), time.Now())
		}
	case *walletv1.ListPositionsRequest:
		return defi.CheckProtocol("protocol", r.GetProtocol())
	case *walletv1.ImportBalancesRequest:
		_, wrongID := requests.ID(r)
		return wrongID
	case *walletv1.ImportTransactionsRequest:
		_, wrongID := requests.ID(r)
		return wrongID
	case *walletv1.WatchChangesRequest:
		return checkWatch(r)
	case *walletv1.StreamHoldingsRequest:
		return checkShard(r.GetShard())
	case *walletv1.ListHistoricalHoldingsRequest:
		if r.GetStartTime() != nil && r.GetEndTime() != nil { // or the contract says so
			_, _, err := historyHours(r.GetStartTime(), r.GetEndTime(), time.Now())
			return err
		}
	}
	return nil
}

// chainOf returns the chain of a request, 0 for all.
func chainOf(r *walletv1.ListTokensRequest) (uint64, error) {
	if r.GetChainId() == "" {
		return 0, nil
	}
	chain, err := caip.ParseChainID(r.GetChainId())
	if err != nil {
		return 0, errs.Invalid("chain_id", err.Error())
	}
	return chain, nil
}
