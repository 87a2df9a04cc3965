package chain

import (
	"context"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/pkg/redact"
	"github.com/purserhq/purser/services/internal/ethsig"
)

// SignatureNodes returns the nodes of a chain, in the order to try, for the signatures of contract wallets. They are
// those of the readings, with their connections, cooldowns and checks.
func (r *Reader) SignatureNodes(chain uint64) []ethsig.Node {
	var out []ethsig.Node
	for _, n := range r.inOrder(r.nodes[chain]) {
		out = append(out, signatureNode{n, r})
	}
	return out
}

type signatureNode struct {
	*node
	reader *Reader
}

// Check implements ethsig.Node.
func (s signatureNode) Check(ctx context.Context) error {
	if err := s.checkRetryAfter(s.reader.now()); err != nil {
		return err
	}
	return s.note(ctx, s.checkChain(ctx))
}

// Head implements ethsig.Node, with the check that Status makes, too.
func (s signatureNode) Head(ctx context.Context) (time.Time, error) {
	now := s.reader.now()
	if err := s.reader.checkNode(ctx, s.node, now); err != nil {
		return time.Time{}, s.note(ctx, err)
	}
	return s.status(now).Head.Time, nil
}

// Call implements ethsig.Node.
func (s signatureNode) Call(ctx context.Context, result any, method string, args ...any) error {
	return s.note(ctx, s.call(ctx, result, method, args...))
}

// Redact implements ethsig.Node.
func (s signatureNode) Redact(err error) error { return redact.Error(err, s.url) }

// note has a node that could not be asked tried after the others for a time. An error that it answered is not its own,
// unless it is called too often.
func (s signatureNode) note(ctx context.Context, err error) error {
	var answer rpc.Error
	if err == nil || ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) ||
		errors.As(err, &answer) && kindOf(err) != limited {
		return err
	}
	now := s.reader.now()
	s.noteFailure(now, reasonOf(err))
	s.startCooldown(now.Add(nodeCooldown))
	return err
}
