// Package demo uses the suite through its public gRPC API as a client would: it registers, signs in, adds
// and syncs wallets, values them, takes a snapshot, backfills past ones, reads the timeline, and rotates
// the signing key under load. It can run again on the same data.
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
	"github.com/purserhq/purser/services/internal/terminal"
)

// Options of a demo.
type Options struct {
	Endpoints suite.Endpoints
	// Dial connects to the endpoints; without TLS when nil.
	Dial     func(suite.Endpoints) (*Clients, error)
	Email    string
	Password string
	// Accounts to add as wallets, CAIP-10.
	Accounts []string
	// Rotate activates the next signing key, as `auth keys rotate` does; nil skips the step.
	Rotate func(ctx context.Context) error
	// Mails receives the services' mails.
	Mails *mailserver.Server
	// History is the length of the backfill; 0 skips the step.
	History time.Duration
	Out     *progress.Printer
}

// Result is the data that the demo read.
type Result struct {
	Token     string
	Wallets   []*walletv1.Wallet
	Prices    []*walletv1.Price
	Valuation *portfoliov1.Valuation
	Snapshot  *portfoliov1.Snapshot
	Hourly    []*portfoliov1.TimelinePoint
	Daily     []*portfoliov1.TimelinePoint
	// Backfill is nil without a history.
	Backfill *Backfill
	// Days of the history, oldest first.
	Days []*portfoliov1.TimelinePoint
	// Best and Worst are the days with the largest and the smallest change; nil if there is none.
	Best, Worst *Change
}

// Clients of the suite's services. Close them when done.
type Clients = client.Clients

// callTimeout of the demo is patient: on a busy machine a step is late, which is no failure.
const callTimeout = time.Minute

// Dial connects to the suite's services.
func Dial(e suite.Endpoints) (*Clients, error) {
	return client.Dial(client.Config{Auth: e.Auth, Wallet: e.Wallet, Portfolio: e.Portfolio, Plaintext: true,
		Timeout: callTimeout})
}

// Run runs all steps and prints each.
func Run(ctx context.Context, o Options) (_ *Result, err error) {
	if o.Dial == nil {
		o.Dial = Dial
	}
	c, err := o.Dial(o.Endpoints)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	d := &driver{Clients: c, options: o, result: &Result{}, ctx: ctx}
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
		{"health of loans", d.health},
		{"take snapshot", d.snapshot},
		{"fire an alert", d.alert},
	}
	if o.History > 0 {
		steps = append(steps, step{fmt.Sprintf("backfill %d days", int(o.History.Hours()+12)/24), d.backfill})
	}
	steps = append(steps, step{"read timeline", d.timeline})
	if o.Rotate != nil {
		// Then sign in again: the token that is printed is of the key that signs now.
		steps = append(steps, step{"rotate signing key", d.rotate}, step{"sign in", d.signIn})
	}
	for _, s := range steps {
		if err := o.Out.Step(s.name, s.run); err != nil {
			return nil, err
		}
	}
	return d.result, nil
}

// driver is one run of the demo.
type driver struct {
	*Clients
	options Options
	result  *Result
	ctx     context.Context //nolint:containedctx // one run; replaced when signed in
}

func (d *driver) register(progress.Note) (string, error) {
	_, err := d.Accounts.Register(d.ctx, &authv1.RegisterRequest{Email: d.options.Email, Password: d.options.Password,
		DisplayName: "Demo"})
	return d.options.Email, err
}

func (d *driver) signIn(progress.Note) (string, error) {
	resp, err := d.Sessions.Login(d.ctx, &authv1.LoginRequest{Email: d.options.Email, Password: d.options.Password})
	if err != nil {
		return "", err
	}
	t := resp.GetTokens()
	d.result.Token = t.GetAccessToken()
	d.ctx = grpcclient.WithToken(d.ctx, d.result.Token)
	me, err := d.Accounts.GetMe(d.ctx, &authv1.GetMeRequest{})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("user %s, token valid until %s", me.GetUser().GetId(),
		t.GetAccessExpireTime().AsTime().Local().Format(time.TimeOnly)), nil
}

// mailTimeout bounds waiting for a mail.
const mailTimeout = callTimeout

// verify verifies the e-mail address with the mailed code, unless an earlier run did.
func (d *driver) verify(progress.Note) (string, error) {
	me, err := d.Accounts.GetMe(d.ctx, &authv1.GetMeRequest{})
	if err != nil {
		return "", err
	}
	if me.GetUser().GetEmailVerified() {
		return "already verified", nil
	}
	code, err := d.mailedCode(time.Second)
	if err != nil { // the mail went to an earlier run
		if _, err := d.Accounts.ResendVerification(d.ctx,
			&authv1.ResendVerificationRequest{Email: d.options.Email}); err != nil {
			return "", err
		}
		if code, err = d.mailedCode(mailTimeout); err != nil {
			return "", err
		}
	}
	// The password says that whoever registered reads the mails, too: without it, it would be removed.
	if _, err := d.Accounts.VerifyEmail(d.ctx,
		&authv1.VerifyEmailRequest{Code: code, Password: d.options.Password}); err != nil {
		return "", err
	}
	return "with the mailed code", nil
}

var codes = regexp.MustCompile(`(?m)^[A-Za-z0-9_-]{43}$`)

func (d *driver) mailedCode(timeout time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, timeout)
	defer cancel()
	m, err := d.options.Mails.Wait(ctx, d.options.Email, func(m mailserver.Mail) bool { return Code(m) != "" })
	return Code(m), err
}

// Code returns the one-time code in a mail; "" if there is none.
func Code(m mailserver.Mail) string { return codes.FindString(m.Body) }

func (d *driver) addWallets(progress.Note) (string, error) {
	added := 0
	for i, a := range d.options.Accounts {
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
	d.result.Wallets = resp.GetWallets()
	return fmt.Sprintf("%d added, %d in total", added, len(d.result.Wallets)), nil
}

func (d *driver) syncBalances(note progress.Note) (string, error) {
	var block uint64
	tokens := 0
	for i, w := range d.result.Wallets {
		note("wallet %d of %d", i+1, len(d.result.Wallets))
		resp, err := d.Wallets.SyncWallet(d.ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
		if err != nil {
			return "", err
		}
		d.result.Wallets[i] = resp.GetWallet()
		block, tokens = resp.GetWallet().GetSync().GetBlockNumber(), int(resp.GetTokenCount())
	}
	return fmt.Sprintf("%d wallets × %d tokens at block %d", len(d.result.Wallets), tokens, block), nil
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
	d.result.Prices = resp.GetPrices()
	priced, source := 0, ""
	for _, p := range d.result.Prices {
		if p.GetPrice() != "" {
			priced, source = priced+1, p.GetSource()
		}
	}
	told := fmt.Sprintf("%d of %d tokens have a price (source %s)", priced, len(ids), source)
	rates, err := d.Prices.GetPrices(d.ctx, &walletv1.GetPricesRequest{TokenIds: []string{"EUR"}})
	if err != nil {
		return "", err
	}
	if euro := rates.GetPrices()[0]; euro.GetPrice() != "" {
		told += fmt.Sprintf(", 1 EUR = %s USD (source %s)", terminal.Money(euro.GetPrice()), euro.GetSource())
	}
	return told, nil
}

func (d *driver) value(progress.Note) (string, error) {
	resp, err := d.Portfolios.GetValuation(d.ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		return "", err
	}
	d.result.Valuation = resp.GetValuation()
	return fmt.Sprintf("%s %s in %d positions", terminal.Money(d.result.Valuation.GetTotal()),
		d.result.Valuation.GetCurrency(), len(d.result.Valuation.GetPositions())), nil
}

// health tells what is owned and owed, and how far the account with the lowest health is from a liquidation.
func (d *driver) health(progress.Note) (string, error) {
	resp, err := d.Defi.GetHealth(d.ctx, &portfoliov1.GetHealthRequest{})
	if err != nil {
		return "", err
	}
	lowest := resp.GetLowest()
	for _, a := range resp.GetAccounts() {
		if a.GetWalletId() != lowest.GetWalletId() || a.GetMarket() != lowest.GetMarket() {
			continue
		}
		v := d.result.Valuation
		return fmt.Sprintf("%s owned − %s owed = %s %s; the lowest health is %s (%s): its collateral may fall by %s",
			terminal.Money(v.GetAssets()), terminal.Money(v.GetLiabilities()), terminal.Money(v.GetTotal()),
			v.GetCurrency(), Decimals(a.GetHealthFactor().GetValue(), 2), a.GetProtocol(),
			Percent(a.GetAllCollateralFall())), nil
	}
	return "no loans", nil
}

func (d *driver) snapshot(progress.Note) (string, error) {
	resp, err := d.Portfolios.TakeSnapshot(d.ctx, &portfoliov1.TakeSnapshotRequest{})
	if err != nil {
		return "", err
	}
	d.result.Snapshot = resp.GetSnapshot()
	outcome := "stored"
	if !resp.GetStored() {
		outcome = "this hour has one"
	}
	bucket := d.result.Snapshot.GetBucketTime().AsTime().Format("2006-01-02 15:04 MST")
	return fmt.Sprintf("%s, bucket %s", outcome, bucket), nil
}

func (d *driver) timeline(progress.Note) (string, error) {
	for _, t := range []struct {
		interval portfoliov1.Interval
		into     *[]*portfoliov1.TimelinePoint
	}{
		{portfoliov1.Interval_INTERVAL_HOURLY, &d.result.Hourly},
		{portfoliov1.Interval_INTERVAL_DAILY, &d.result.Daily},
	} {
		resp, err := d.Portfolios.GetTimeline(d.ctx, &portfoliov1.GetTimelineRequest{Interval: t.interval})
		if err != nil {
			return "", err
		}
		*t.into = resp.GetPoints()
	}
	return fmt.Sprintf("%d hourly and %d daily points", len(d.result.Hourly), len(d.result.Daily)), nil
}
