package chain

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
	"golang.org/x/sync/errgroup"
)

const (
	// firstBatchCalls is how many calls one HTTP request has at first, and maxBatchCalls at most: fewer than nodes
	// allow. It doubles after a batch that took less than quickBatch, and is halved after one that took more than
	// slowBatch, so that a node that makes one call after the other is done within pastCallTimeout.
	firstBatchCalls, maxBatchCalls = 8, 24
	quickBatch, slowBatch          = 250 * time.Millisecond, time.Second
	// maxBatchBalances is how many balances the calls of one HTTP request read at most, unless a single one reads
	// more.
	maxBatchBalances = 1000
	// maxConcurrentRequests is how many HTTP requests callAll makes concurrently.
	maxConcurrentRequests = 4
	// batchCooldown is how long a node that failed with a batch gets single calls.
	batchCooldown = 10 * time.Minute
)

// callAll makes calls, and sets the result or the error of each. It sends them as JSON-RPC batches, several calls in
// one HTTP request.
//
// A batch is only a faster way: a call that failed in one is made again alone, and only then has failed, unless the
// node answered that it doesn't have the block's state. One of a block that the node doesn't know is made again a few
// times: another node may answer behind the same URL. A node that failed with a batch, or with a call in one that
// works alone, gets single calls for batchCooldown. When the node does not answer a single call, or says that it is
// called too often, the calls that are left fail with the same error. Of the calls that failed in an answered batch
// one is made alone before the others, so that a node that is called too often already gets no more than that one.
func (n *node) callAll(ctx context.Context, timeout time.Duration, calls []rpc.BatchElem) {
	unanswered := make([]bool, len(calls))
	for i := range unanswered {
		unanswered[i] = true
	}
	if len(calls) > 1 && n.batchSize() > 1 {
		n.callBatches(ctx, timeout, calls, unanswered)
	}
	var left []*rpc.BatchElem
	for i := range calls {
		if unanswered[i] {
			left = append(left, &calls[i])
		}
	}
	if i := slices.IndexFunc(left, func(call *rpc.BatchElem) bool { return call.Error != nil }); i >= 0 {
		if err := n.callEachAlone(ctx, timeout, left[i:i+1]); err != nil {
			for _, call := range left {
				call.Error = err
			}
			return
		}
		left = slices.Delete(left, i, i+1)
	}
	if err := n.callEachAlone(ctx, timeout, left); err != nil && ctx.Err() == nil {
		for _, call := range left {
			if errors.Is(call.Error, context.Canceled) {
				call.Error = err
			}
		}
	}
}

// callEachAlone makes calls in HTTP requests of their own. The error is that of a call after which the others would
// fail too; those that had not been made by then have the error context.Canceled.
func (n *node) callEachAlone(ctx context.Context, timeout time.Duration, calls []*rpc.BatchElem) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxConcurrentRequests)
	for _, call := range calls {
		g.Go(func() error {
			inBatch, err := call.Error, n.callAlone(ctx, timeout, *call)
			call.Error = err
			switch {
			case err == nil && inBatch != nil && !isUnknownBlock(inBatch):
				n.refuseBatches()
			case err != nil && !isRefused(err) && !isNoState(err):
				return err // so would the others
			}
			return nil
		})
	}
	return g.Wait()
}

// callAlone makes a call in a request of its own, again while the node doesn't know the block.
func (n *node) callAlone(ctx context.Context, timeout time.Duration, call rpc.BatchElem) (err error) {
	whileUnknown(ctx, func() bool {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		err = n.call(limited, call.Result, call.Method, call.Args...)
		return isUnknownBlock(err)
	})
	return err
}

// callBatches makes calls in batches, and clears unanswered for those that need not be made alone.
func (n *node) callBatches(ctx context.Context, timeout time.Duration, calls []rpc.BatchElem, unanswered []bool) {
	var g errgroup.Group
	g.SetLimit(maxConcurrentRequests)
	size := n.batchSize()
	for start := 0; start < len(calls); start += size {
		end := min(start+size, len(calls))
		g.Go(func() error {
			if n.callBatch(ctx, timeout, calls[start:end]) {
				for i := start; i < end; i++ {
					unanswered[i] = calls[i].Error != nil && !isNoState(calls[i].Error)
				}
			}
			return nil
		})
	}
	_ = g.Wait()
}

// callBatch makes calls in one batch, and reports whether it was answered. Those of a block that the node doesn't know
// are made again, in a batch of their own.
func (n *node) callBatch(ctx context.Context, timeout time.Duration, calls []rpc.BatchElem) (answered bool) {
	open, places := slices.Clone(calls), make([]int, len(calls))
	for i := range places {
		places[i] = i
	}
	whileUnknown(ctx, func() bool {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		begun := time.Now()
		if err := n.callTogether(limited, open); err != nil {
			if ctx.Err() == nil {
				n.refuseBatches()
			}
			return false // the calls are made alone
		}
		answered = true
		n.adaptBatches(len(open), time.Since(begun))
		var unknown []rpc.BatchElem
		var left []int
		for j, i := range places {
			calls[i].Error = open[j].Error
			if isUnknownBlock(open[j].Error) {
				open[j].Error = nil
				unknown, left = append(unknown, open[j]), append(left, i)
			}
		}
		open, places = unknown, left
		return len(open) > 0
	})
	return answered
}

// batchSize is how many calls a batch for the node has: 1 if it failed with a batch within batchCooldown.
func (n *node) batchSize() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.singleUntil) {
		return 1
	}
	return n.batchCalls
}

// adaptBatches sets the size of the next batches after one of this many calls.
func (n *node) adaptBatches(calls int, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case took > slowBatch:
		n.batchCalls = max(2, calls/2)
	case took < quickBatch && calls == n.batchCalls:
		n.batchCalls = min(maxBatchCalls, 2*calls)
	}
}

func (n *node) refuseBatches() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.singleUntil, n.batchCalls = time.Now().Add(batchCooldown), firstBatchCalls
}
