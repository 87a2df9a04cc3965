package demo

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/progress"
)

const (
	rotations = 2
	// callers call all the while: every other one with the token that it began
	// with, the rest with the newest.
	callers   = 4
	callEvery = 20 * time.Millisecond
	// renewEvery is how often a new token is asked for; a session takes 32 of
	// them in ten seconds.
	renewEvery = 500 * time.Millisecond
)

// rotation is what goes on while the key is rotated.
type rotation struct {
	*driver
	session *authv1.Tokens
	newest  atomic.Pointer[string]
	calls   atomic.Int64
	failed  chan error // the first failure
}

// rotate rotates the signing key under calls to all three services, and fails
// when one of them does.
func (d *driver) rotate(note progress.Note) (string, error) {
	resp, err := d.Sessions.Login(d.ctx, &authv1.LoginRequest{Email: d.o.Email, Password: d.o.Password})
	if err != nil {
		return "", err
	}
	r := &rotation{driver: d, session: resp.GetTokens(), failed: make(chan error, 1)}
	begun := r.session.GetAccessToken()
	r.newest.Store(&begun)
	ctx, stop := context.WithCancel(d.ctx)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { r.call(ctx, i%2 == 0) })
	}
	kids, err := r.turn(ctx, note)
	stop()
	all.Wait()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; %d calls meanwhile, 0 failed", strings.Join(kids, " → "), r.calls.Load()), nil
}

// turn rotates the key and follows it until tokens are signed with the last.
func (r *rotation) turn(ctx context.Context, note progress.Note) (kids []string, err error) {
	first, err := kid(*r.newest.Load())
	if err != nil {
		return nil, err
	}
	kids = []string{first}
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for done := 0; len(kids) <= rotations; {
		if done < len(kids) {
			switch err := r.o.Rotate(ctx); {
			case err == nil:
				done++
			case errs.As(err) == nil || errs.As(err).Reason != "KEY_TOO_YOUNG":
				return nil, err
			}
		}
		note("rotation %d of %d: waiting until every verifier knows the next key; %d calls, 0 failed", len(kids),
			rotations, r.calls.Load())
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-r.failed:
			return nil, err
		case <-tick.C:
		}
		now, err := r.renew(ctx)
		if err != nil {
			return nil, err
		}
		if now != kids[len(kids)-1] {
			kids = append(kids, now)
		}
	}
	return kids, nil
}

// renew gets a new token and says which key signed it.
func (r *rotation) renew(ctx context.Context) (string, error) {
	resp, err := r.Sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: r.session.GetRefreshToken()})
	if err != nil {
		return "", fmt.Errorf("refresh: %w", err)
	}
	r.calls.Add(1)
	r.session = resp.GetTokens()
	token := r.session.GetAccessToken()
	r.newest.Store(&token)
	return kid(token)
}

// call calls the services in turn until ctx ends or a call fails.
func (r *rotation) call(ctx context.Context, old bool) {
	token := *r.newest.Load()
	tick := time.NewTicker(callEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if !old {
			token = *r.newest.Load()
		}
		as := grpcclient.WithToken(ctx, token)
		var err error
		switch n % 3 {
		case 0:
			_, err = r.Accounts.GetMe(as, &authv1.GetMeRequest{})
		case 1:
			_, err = r.Wallets.ListWallets(as, &walletv1.ListWalletsRequest{})
		case 2:
			_, err = r.Portfolios.GetValuation(as, &portfoliov1.GetValuationRequest{})
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			select {
			case r.failed <- fmt.Errorf("a call failed while the key was rotated: %w", err):
			default: // another told first
			}
			return
		}
		r.calls.Add(1)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// kid is the beginning of the id of the key that signed a token.
func kid(token string) (string, error) {
	t, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		return "", fmt.Errorf("access token: %w", err)
	}
	id, _ := t.Header["kid"].(string)
	return id[:min(6, len(id))] + "…", nil
}
