package chain

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/purserhq/purser/services/internal/dependency"
	"github.com/purserhq/purser/services/internal/probe"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

// Watch returns a question for package dependency: whether a node of a chain, counted
// from 0, is usable and follows its chain. It is the check that Status makes, too:
// whichever comes first within ten seconds asks the node, and the other uses the
// answer. The errors are those of probe.Node; they may contain the node's URL.
func (r *Reader) Watch(chain uint64, number int) func(context.Context) error {
	n := r.nodes[chain][number]
	return func(ctx context.Context) error {
		if err := r.checkNode(ctx, n, r.now()); err != nil {
			return asDependency(err)
		}
		head := n.status(r.now()).Head
		if age := r.now().Sub(head.Time); age > probe.MaxHeadAge {
			return dependency.Failed("HEAD_TOO_OLD", fmt.Errorf("the newest block, %d, is of %s, %s ago", head.Number,
				head.Time.Format(time.RFC3339), age.Round(time.Second)))
		}
		return nil
	}
}

// asDependency gives the error of a check the reason that GetStatus has for it.
func asDependency(err error) error {
	var answer rpc.Error
	var status rpc.HTTPError
	switch {
	case errors.As(err, new(*wrongChainError)):
		return dependency.Failed("WRONG_CHAIN", err)
	case errors.As(err, new(*futureError)):
		return dependency.Failed("HEAD_IN_FUTURE", err)
	case errors.As(err, &status):
		if status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden {
			return dependency.Failed("CREDENTIALS", err)
		}
		return dependency.Failed("HTTP_STATUS", err)
	case errors.As(err, &answer):
		return dependency.Failed("NODE_ERROR", err)
	case reasonOf(err) == chainlist.InvalidAnswer && !errors.Is(err, context.Canceled):
		return dependency.Failed("INVALID_ANSWER", err)
	}
	return err // of the network
}
