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
	// callers run concurrently: half of them keep their first token, the others use the latest.
	callers      = 4
	callInterval = 20 * time.Millisecond
	// refreshInterval stays below the limit of a session, 32 refreshes in ten seconds.
	refreshInterval = 400 * time.Millisecond
)

// rotation is the state of a rotation under load.
type rotation struct {
	*driver
	session *authv1.Tokens
	latest  atomic.Pointer[string] // access token
	calls   atomic.Int64
	failed  chan error // the first error of a call
}

// rotate rotates the signing key while it calls all three services. It fails if a call fails.
func (d *driver) rotate(note progress.Note) (string, error) {
	resp, err := d.Sessions.Login(d.ctx, &authv1.LoginRequest{Email: d.options.Email, Password: d.options.Password})
	if err != nil {
		return "", err
	}
	r := &rotation{driver: d, session: resp.GetTokens(), failed: make(chan error, 1)}
	begun := r.session.GetAccessToken()
	r.latest.Store(&begun)
	ctx, stop := context.WithCancel(d.ctx)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { r.call(ctx, i%2 == 0) })
	}
	kids, err := r.rotateAndFollow(ctx, note)
	stop()
	all.Wait()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; %d calls during the rotation, 0 failed", strings.Join(kids, " → "), r.calls.Load()), nil
}

// rotateAndFollow rotates the key and refreshes the session until the last key signs its token. It
// returns the ids of the keys.
func (r *rotation) rotateAndFollow(ctx context.Context, note progress.Note) (kids []string, err error) {
	first, err := kid(*r.latest.Load())
	if err != nil {
		return nil, err
	}
	kids = []string{first}
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	for done := 0; len(kids) <= rotations; {
		if done < len(kids) {
			switch err := r.options.Rotate(ctx); {
			case err == nil:
				done++
			case errs.As(err) == nil || errs.As(err).Reason != "KEY_TOO_YOUNG":
				return nil, err
			}
		}
		note("rotation %d of %d: waiting until all verifiers know the next key; %d calls, 0 failed", len(kids),
			rotations, r.calls.Load())
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-r.failed:
			return nil, err
		case <-tick.C:
		}
		now, err := r.refresh(ctx)
		if err != nil {
			return nil, err
		}
		if now != kids[len(kids)-1] {
			kids = append(kids, now)
		}
	}
	return kids, nil
}

// refresh gets a new token and returns the id of the key that signed it.
func (r *rotation) refresh(ctx context.Context) (string, error) {
	resp, err := r.Sessions.Refresh(ctx, &authv1.RefreshRequest{RefreshToken: r.session.GetRefreshToken()})
	if err != nil {
		return "", fmt.Errorf("refresh: %w", err)
	}
	r.calls.Add(1)
	r.session = resp.GetTokens()
	token := r.session.GetAccessToken()
	r.latest.Store(&token)
	return kid(token)
}

// call calls the services in turn until ctx ends or a call fails.
func (r *rotation) call(ctx context.Context, keepToken bool) {
	token := *r.latest.Load()
	tick := time.NewTicker(callInterval)
	defer tick.Stop()
	for n := 0; ; n++ {
		if !keepToken {
			token = *r.latest.Load()
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
			case r.failed <- fmt.Errorf("a call failed during the key rotation: %w", err):
			default: // another caller failed first
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

// kid returns the first characters of the id of the key that signed a token.
func kid(token string) (string, error) {
	t, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		return "", fmt.Errorf("access token: %w", err)
	}
	id, _ := t.Header["kid"].(string)
	return id[:min(6, len(id))] + "…", nil
}
