package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
)

// ListChains implements the RPC.
func (s *TokenServer) ListChains(ctx context.Context, _ *walletv1.ListChainsRequest) (*walletv1.ListChainsResponse,
	error) {
	chains, err := s.chains.List(ctx)
	if err != nil {
		return nil, err
	}
	resp, now := &walletv1.ListChainsResponse{}, time.Now()
	for _, c := range chains {
		out := chainToProto(c, now)
		out.Reset_ = resetToProto(s.resets.Known(ctx, c.ID))
		resp.Chains = append(resp.Chains, out)
	}
	return resp, nil
}

func chainToProto(c chainlist.Chain, now time.Time) *walletv1.Chain {
	out := &walletv1.Chain{Id: caip.ChainID(c.ID), Eip155Id: c.ID, Name: c.Name, NativeSymbol: c.Symbol}
	if c.Head != nil {
		out.Head = headToProto(*c.Head, now)
	}
	for i, n := range c.Nodes {
		out.Nodes = append(out.Nodes, nodeToProto(i+1, n, now))
	}
	return out
}

// resetToProto is unset for a chain that never looked reset.
func resetToProto(v chainreset.Verdict) *walletv1.ChainReset {
	if !v.Suspected() && v.ForgottenAt.IsZero() {
		return nil
	}
	return &walletv1.ChainReset{SuspectTime: setTime(v.SuspectedAt), Error: v.Message, ForgetTime: setTime(v.ForgetAt),
		LastForgetTime: setTime(v.ForgottenAt)}
}

func nodeToProto(number int, n chainlist.NodeStatus, now time.Time) *walletv1.Node {
	out := &walletv1.Node{
		Number: int32(number), Provider: n.Provider, Reachable: n.Reachable,
		CheckTime: setTime(n.CheckedAt), CooldownEndTime: setTime(n.CooldownUntil),
		LastErrorReason: string(n.Reason), LastErrorTime: setTime(n.FailedAt),
	}
	if !n.CheckedAt.IsZero() {
		out.Latency = durationpb.New(n.Latency)
	}
	if n.Reachable {
		out.Head = headToProto(n.Head, now)
	}
	return out
}

func headToProto(b block.Block, now time.Time) *walletv1.Head {
	return &walletv1.Head{BlockNumber: b.Number, BlockTime: timestamppb.New(b.Time),
		Age: durationpb.New(max(0, now.Sub(b.Time)))}
}

// setTime is unset for the zero time.
func setTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
