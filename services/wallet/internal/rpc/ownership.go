package rpc

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/bucket"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// proofsPerMinute is how many proofs an owner may finish in a minute: each may have
// nodes called.
const proofsPerMinute = 10

// StartOwnershipProof implements the RPC.
func (s *WalletServer) StartOwnershipProof(ctx context.Context,
	req *walletv1.StartOwnershipProofRequest) (*walletv1.StartOwnershipProofResponse, error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	c, proven, err := s.ownership.Start(ctx, authn.CallerFrom(ctx).UserID, id)
	if err != nil {
		return nil, err
	}
	if proven != nil {
		return &walletv1.StartOwnershipProofResponse{Wallet: walletToProto(*proven)}, nil
	}
	return &walletv1.StartOwnershipProofResponse{Message: c.Message, ExpireTime: timestamppb.New(c.Expires)}, nil
}

// FinishOwnershipProof implements the RPC.
func (s *WalletServer) FinishOwnershipProof(ctx context.Context,
	req *walletv1.FinishOwnershipProofRequest) (*walletv1.FinishOwnershipProofResponse, error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	request, err := requests.ID(req)
	if err != nil {
		return nil, err
	}
	owner := authn.CallerFrom(ctx).UserID
	if err := s.limits.takeProof(ctx, owner); err != nil {
		return nil, err
	}
	w, err := s.ownership.Finish(ctx, owner, id, req.GetMessage(), req.GetSignature(), request)
	if err != nil {
		return nil, err
	}
	return &walletv1.FinishOwnershipProofResponse{Wallet: walletToProto(w)}, nil
}

// takeProof charges a call of FinishOwnershipProof. The error is errs.Exhausted
// (TOO_MANY_PROOFS).
func (l Limits) takeProof(ctx context.Context, owner uuid.UUID) error {
	wait := l.Calls.Take(ctx, bucket.Bucket{Kind: "proof", Key: owner.String(), PerMinute: proofsPerMinute})
	if wait == 0 {
		return nil
	}
	return errs.Exhausted("TOO_MANY_PROOFS", fmt.Sprintf("FinishOwnershipProof can be called %d times in a minute; "+
		"wait for the time in RetryInfo", proofsPerMinute)).After(wait)
}

var proofs = map[wallet.ProofBy]walletv1.OwnershipProof{
	wallet.ByKey:      walletv1.OwnershipProof_OWNERSHIP_PROOF_KEY,
	wallet.ByContract: walletv1.OwnershipProof_OWNERSHIP_PROOF_CONTRACT,
	wallet.ByIdentity: walletv1.OwnershipProof_OWNERSHIP_PROOF_IDENTITY,
}

func ownershipToProto(p *wallet.Proof) *walletv1.Ownership {
	if p == nil {
		return &walletv1.Ownership{State: walletv1.OwnershipState_OWNERSHIP_STATE_WATCH_ONLY}
	}
	return &walletv1.Ownership{State: walletv1.OwnershipState_OWNERSHIP_STATE_PROVEN, Proof: proofs[p.By],
		ProveTime: timestamppb.New(p.At)}
}
