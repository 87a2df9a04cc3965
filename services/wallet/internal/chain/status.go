package chain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
	"golang.org/x/net/publicsuffix"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
)

const (
	// checkInterval is how long the result of a check of all nodes is used: a node is asked
	// at most once in this time, however often Status is called.
	checkInterval = 10 * time.Second
	// checkTimeout bounds a check of all nodes.
	checkTimeout = 4 * time.Second
	// maxChecks is how many nodes are checked at a time.
	maxChecks = 16
)

// wrongChainError is about a node of another chain than configured.
type wrongChainError struct {
	id   string
	want uint64
}

func (e *wrongChainError) Error() string {
	return fmt.Sprintf("the node is of chain %.80s, not %d", e.id, e.want)
}

// futureError is about a node whose newest block is in the future.
type futureError struct{ block block.Block }

func (e *futureError) Error() string {
	return fmt.Sprintf("the newest block is in the future: block %d is of %s", e.block.Number, e.block.Time)
}

// checker has one check of all nodes at a time.
type checker struct {
	mu      sync.Mutex
	begun   time.Time       // of the last check
	running chan struct{}   // closed when the check has ended; nil when none is running
	stop    context.Context //nolint:containedctx // the lifetime of the checks, ended by close
	cancel  context.CancelFunc
	ended   sync.WaitGroup
}

func newChecker() *checker {
	c := &checker{}
	c.stop, c.cancel = context.WithCancel(context.Background())
	return c
}

// close cancels a check that is running and waits for it.
func (c *checker) close() {
	c.mu.Lock()
	c.cancel()
	c.mu.Unlock()
	c.ended.Wait()
}

// Status returns what is known of the nodes of each chain, in order of the chains. It
// checks them all first, if nobody has within the last ten seconds; callers that come
// meanwhile wait for the same check. The error is ctx's own.
func (r *Reader) Status(ctx context.Context) ([]chainlist.Status, error) {
	if running := r.check(); running != nil {
		select {
		case <-running:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	now := r.now()
	all := make([]chainlist.Status, 0, len(r.nodes))
	for _, chain := range r.Chains() {
		s := chainlist.Status{Chain: chain}
		for _, n := range r.nodes[chain] {
			s.Nodes = append(s.Nodes, n.status(now))
		}
		all = append(all, s)
	}
	return all, nil
}

// check starts a check if one is due, and returns the channel of the one that is
// running, nil when none is. The check goes on when its first caller has left.
func (r *Reader) check() <-chan struct{} {
	c := r.checker
	c.mu.Lock()
	defer c.mu.Unlock()
	now := r.now()
	if c.running != nil || c.stop.Err() != nil || !c.begun.IsZero() && now.Sub(c.begun) < checkInterval {
		return c.running
	}
	c.begun, c.running = now, make(chan struct{})
	c.ended.Go(func() {
		r.checkAll(c.stop, now)
		c.mu.Lock()
		defer c.mu.Unlock()
		close(c.running)
		c.running = nil
	})
	return c.running
}

func (r *Reader) checkAll(ctx context.Context, begun time.Time) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(maxChecks)
	for _, nodes := range r.nodes {
		for _, n := range nodes {
			g.Go(func() error {
				_ = r.checkNode(ctx, n, begun) // it is kept in n.health
				return nil
			})
		}
	}
	_ = g.Wait() // no check returns an error
}

// checkNode asks a node for its chain and its newest block, and returns why that
// failed. What it found is used for checkInterval from begun on, when the check of which
// it is a part began: until then it is returned again. It doesn't change which node is
// tried first: that is for readings. It leaves what is known of the node when no time
// is left to ask it, because others hang.
func (r *Reader) checkNode(ctx context.Context, n *node, begun time.Time) error {
	select {
	case n.checking <- struct{}{}:
		defer func() { <-n.checking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := n.checkRetryAfter(begun); err != nil {
		return err
	}
	if last := n.lastCheck; !last.begun.IsZero() && begun.Sub(last.begun) < checkInterval {
		return last.err
	}
	started := time.Now()
	err := n.askChain(ctx)
	var head block.Block
	if err == nil {
		head, err = r.newest(ctx, n)
	}
	n.lastCheck.begun, n.lastCheck.err = begun, err
	took, now := time.Since(started), r.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.health.CheckedAt, n.health.Reachable, n.health.Head, n.health.Latency = now, err == nil, head, took
	if err != nil {
		n.health.Head = block.Block{}
		n.health.FailedAt, n.health.Reason = now, reasonOf(err)
	}
	return err
}

// status returns what is known of the node.
func (n *node) status(now time.Time) chainlist.NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.health
	s.Provider = n.provider
	if now.Before(n.cooldownUntil) {
		s.CooldownUntil = n.cooldownUntil
	}
	return s
}

// noteFailure keeps when and why a reading failed.
func (n *node) noteFailure(at time.Time, why chainlist.Reason) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.health.FailedAt, n.health.Reason = at, why
}

// reasonOf classifies the error of a node. It has to see the error before it is
// redacted.
func reasonOf(err error) chainlist.Reason {
	var network net.Error
	var answer rpc.Error
	var status rpc.HTTPError
	var future *futureError
	var redirect *redirectError
	var notBefore *retryAfterError
	switch {
	case errors.As(err, new(*wrongChainError)):
		return chainlist.WrongChain
	case errors.Is(err, errBehind):
		return chainlist.Behind
	case errors.Is(err, errUnknownBlock):
		return chainlist.UnknownBlock
	case errors.As(err, &future):
		return chainlist.BlockInFuture
	case errors.As(err, &redirect):
		return chainlist.Redirects
	case errors.As(err, &notBefore):
		return chainlist.RateLimited
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return chainlist.Timeout
	case errors.As(err, &status):
		return reasonOfStatus(status.StatusCode)
	case errors.As(err, &answer):
		if kindOf(err) == limited {
			return chainlist.RateLimited
		}
		return chainlist.Refused
	case errors.As(err, new(*socketError)):
		return chainlist.Unreachable
	case errors.As(err, &network):
		if network.Timeout() {
			return chainlist.Timeout
		}
		return chainlist.Unreachable
	}
	return chainlist.InvalidAnswer
}

func reasonOfStatus(code int) chainlist.Reason {
	switch code {
	case http.StatusTooManyRequests:
		return chainlist.RateLimited
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden:
		return chainlist.Unauthorized
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return chainlist.Unreachable
	}
	return chainlist.InvalidAnswer
}

// providerOf returns the registered domain of a host, "" when it has none: what
// stands before it may be a key.
func providerOf(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	suffix, official := publicsuffix.PublicSuffix(host)
	// Below a suffix that a company lets its customers have, such as ngrok.app, each
	// customer chooses a name: the company is the provider. The suffix of a name that
	// isn't on the list is its last label.
	for !official && strings.Contains(suffix, ".") {
		host = suffix
		_, parent, _ := strings.Cut(host, ".")
		suffix, official = publicsuffix.PublicSuffix(parent)
	}
	if len(host) <= len(suffix) {
		return ""
	}
	return host[strings.LastIndex(host[:len(host)-len(suffix)-1], ".")+1:]
}
