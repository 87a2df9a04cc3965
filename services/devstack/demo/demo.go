// Package demo drives the suite's main job through its public gRPC API, as a
// client would: sign up, sign in, add wallets, sync them, price and value
// them, take a snapshot, fill in those of the past, read the timeline, and rotate the signing key under
// calls. It can be run again on the same data.
package demo

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/client"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/progress"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/internal/mailserver"
)

// Options of a demo.
type Options struct {
	Endpoints suite.Endpoints
	Email     string
	Password  string
	// Accounts to add as wallets, CAIP-10.
	Accounts []string
	// Rotate makes the next signing key the active one, as `auth keys rotate`
	// does; nil leaves the step out.
	Rotate func(ctx context.Context) error
	// Mails is where the services' mails arrive.
	Mails *mailserver.Server
	// History is how far back the portfolio's value is filled in; 0 leaves the
	// step out.
	History time.Duration
	Out     *progress.Printer
}

// Result is what the demo came to.
type Result struct {
	Token     string
	Wallets   []*walletv1.Wallet
	Prices    []*walletv1.Price
	Valuation *portfoliov1.Valuation
	Snapshot  *portfoliov1.Snapshot
	Hourly    []*portfoliov1.TimelinePoint
	Daily     []*portfoliov1.TimelinePoint
	// With a history: how its filling in went, the days of it, oldest first, and
	// those that the value rose and fell most in; nil for none.
	Backfill    *Backfill
	Days        []*portfoliov1.TimelinePoint
	Best, Worst *Change
}

// Clients of the suite's services. Close them when done.
type Clients = client.Clients

// Dial connects to the suite's services.
func Dial(e suite.Endpoints) (*Clients, error) {
	return client.Dial(client.Config{Auth: e.Auth, Wallet: e.Wallet, Portfolio: e.Portfolio, Plaintext: true})
}

// Run drives the main job and shows each step.
func Run(ctx context.Context, o Options) (_ *Result, err error) {
	c, err := Dial(o.Endpoints)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	d := &driver{Clients: c, o: o, r: &Result{}, ctx: ctx}
	type step struct {
		name string
		run  func(progress.Note) (string, error)
	}
	steps := []step{
		{"register", d.register},
		{"sign in", d.signIn},
		{"verify address", d.verify},
		{"add wallets", d.addWallets},
		{"sync balances", d.syncBalances},
		{"price tokens", d.price},
		{"value portfolio", d.value},
		{"take snapshot", d.snapshot},
	}
	if o.History > 0 {
		steps = append(steps, step{fmt.Sprintf("backfill %d days", int(o.History.Hours()+12)/24), d.backfill})
	}
	steps = append(steps, step{"read timeline", d.timeline})
	if o.Rotate != nil {
		steps = append(steps, step{"rotate signing key", d.rotate})
	}
	for _, s := range steps {
		if err := o.Out.Step(s.name, s.run); err != nil {
			return nil, err
		}
	}
	return d.r, nil
}

type driver struct {
	*Clients
	o   Options
	r   *Result
	ctx context.Context //nolint:containedctx // one run; replaced when signed in
}

func (d *driver) register(progress.Note) (string, error) {
	_, err := d.Accounts.Register(d.ctx, &authv1.RegisterRequest{Email: d.o.Email, Password: d.o.Password,
		DisplayName: "Demo"})
	return d.o.Email, err
}

func (d *driver) signIn(progress.Note) (string, error) {
	resp, err := d.Sessions.Login(d.ctx, &authv1.LoginRequest{Email: d.o.Email, Password: d.o.Password})
	if err != nil {
		return "", err
	}
	t := resp.GetTokens()
	d.r.Token = t.GetAccessToken()
	d.ctx = grpcclient.WithToken(d.ctx, d.r.Token)
	me, err := d.Accounts.GetMe(d.ctx, &authv1.GetMeRequest{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("user %s, token good until %s", me.GetUser().GetId(),
		t.GetAccessExpireTime().AsTime().Local().Format(time.TimeOnly)), nil
}

// mailWait is how long a mail may take.
const mailWait = 10 * time.Second

// verify proves the address with the code that was mailed, unless an earlier
// run did.
func (d *driver) verify(progress.Note) (string, error) {
	me, err := d.Accounts.GetMe(d.ctx, &authv1.GetMeRequest{})
	if err != nil {
		return "", err
	}
	if me.GetUser().GetEmailVerified() {
		return "verified before", nil
	}
	code, err := d.mailedCode(time.Second)
	if err != nil { // mailed to an earlier run
		if _, err := d.Accounts.ResendVerification(d.ctx,
			&authv1.ResendVerificationRequest{Email: d.o.Email}); err != nil {
			return "", err
		}
		if code, err = d.mailedCode(mailWait); err != nil {
			return "", err
		}
	}
	if _, err := d.Accounts.VerifyEmail(d.ctx, &authv1.VerifyEmailRequest{Code: code}); err != nil {
		return "", err
	}
	return "with the code that was mailed", nil
}

var codes = regexp.MustCompile(`(?m)^[A-Za-z0-9_-]{43}$`)

func (d *driver) mailedCode(patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	m, err := d.o.Mails.Wait(ctx, d.o.Email, func(m mailserver.Mail) bool { return Code(m) != "" })
	return Code(m), err
}

// Code is the one-time code of a mail, "" when it has none.
func Code(m mailserver.Mail) string { return codes.FindString(m.Body) }

func (d *driver) addWallets(progress.Note) (string, error) {
	added := 0
	for i, a := range d.o.Accounts {
		_, err := d.Wallets.CreateWallet(d.ctx,
			&walletv1.CreateWalletRequest{Account: a, Label: fmt.Sprintf("Demo %d", i+1)})
		switch {
		case err == nil:
			added++
		case !errs.Is(err, errs.KindAlreadyExists):
			return "", err
		}
	}
	resp, err := d.Wallets.ListWallets(d.ctx, &walletv1.ListWalletsRequest{})
	if err != nil {
		return "", err
	}
	d.r.Wallets = resp.GetWallets()
	return fmt.Sprintf("%d added, %d in all", added, len(d.r.Wallets)), nil
}

func (d *driver) syncBalances(note progress.Note) (string, error) {
	var block uint64
	tokens := 0
	for i, w := range d.r.Wallets {
		note("wallet %d of %d", i+1, len(d.r.Wallets))
		resp, err := d.Wallets.SyncWallet(d.ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
		if err != nil {
			return "", err
		}
		d.r.Wallets[i] = resp.GetWallet()
		block, tokens = resp.GetWallet().GetSync().GetBlockNumber(), int(resp.GetTokenCount())
	}
	return fmt.Sprintf("%d wallets × %d tokens at block %d", len(d.r.Wallets), tokens, block), nil
}

func (d *driver) price(progress.Note) (string, error) {
	tokens, err := d.Tokens.ListTokens(d.ctx, &walletv1.ListTokensRequest{})
	if err != nil {
		return "", err
	}
	ids := make([]string, 0, len(tokens.GetTokens()))
	for _, t := range tokens.GetTokens() {
		ids = append(ids, t.GetId())
	}
	resp, err := d.Prices.GetPrices(d.ctx, &walletv1.GetPricesRequest{TokenIds: ids})
	if err != nil {
		return "", err
	}
	d.r.Prices = resp.GetPrices()
	priced, source := 0, ""
	for _, p := range d.r.Prices {
		if p.GetPrice() != "" {
			priced, source = priced+1, p.GetSource()
		}
	}
	return fmt.Sprintf("%d of %d tokens have a price (source %s)", priced, len(ids), source), nil
}

func (d *driver) value(progress.Note) (string, error) {
	resp, err := d.Portfolios.GetValuation(d.ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		return "", err
	}
	d.r.Valuation = resp.GetValuation()
	return fmt.Sprintf("%s %s in %d positions", Money(d.r.Valuation.GetTotal()), d.r.Valuation.GetCurrency(),
		len(d.r.Valuation.GetPositions())), nil
}

func (d *driver) snapshot(progress.Note) (string, error) {
	resp, err := d.Portfolios.TakeSnapshot(d.ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil {
		return "", err
	}
	d.r.Snapshot = resp.GetSnapshot()
	what := "stored"
	if !resp.GetStored() {
		what = "kept the one of this hour"
	}
	return fmt.Sprintf("%s, bucket %s", what, d.r.Snapshot.GetBucketTime().AsTime().Format("2006-01-02 15:04 MST")),
		nil
}

func (d *driver) timeline(progress.Note) (string, error) {
	for _, t := range []struct {
		interval portfoliov1.Interval
		into     *[]*portfoliov1.TimelinePoint
	}{
		{portfoliov1.Interval_INTERVAL_HOURLY, &d.r.Hourly},
		{portfoliov1.Interval_INTERVAL_DAILY, &d.r.Daily},
	} {
		resp, err := d.Portfolios.GetTimeline(d.ctx, &portfoliov1.GetTimelineRequest{Interval: t.interval})
		if err != nil {
			return "", err
		}
		*t.into = resp.GetPoints()
	}
	return fmt.Sprintf("%d hourly and %d daily points", len(d.r.Hourly), len(d.r.Daily)), nil
}
