// Package client calls Purser's services from a Go program. One Dial returns the
// typed clients of all services, with the retries, limits and typed errors of
// package grpcclient, and with an access token on every call that needs one.
//
// It promises: a method is retried when its service is UNAVAILABLE if its contract
// allows a repeat (idempotency_level), and no other; tokens are renewed before they
// expire, by one call for all callers; a call that was refused is not repeated.
// The errors of calls contain an *errs.Error, see errs.As.
//
// Limits: the clock may be wrong by less than the lifetime of a token, 5 minutes at
// the least. A Clients acts as one caller. A gateway that acts as many puts the
// token of each into the context (grpcclient.WithToken), which takes precedence.
package client

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	statusv1 "github.com/purserhq/purser/proto/gen/purser/status/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// Config of the connections.
type Config struct {
	// Auth, Wallet and Portfolio are the services' addresses, host:port or a gRPC
	// target. The clients of a service without an address are nil.
	Auth, Wallet, Portfolio string
	// Plaintext calls without TLS.
	Plaintext bool
	// CAFile is a PEM file of roots to trust instead of the system's.
	CAFile string
	// TLSCert and TLSKey are PEM files of the client's own certificate, for services that ask
	// for one. They are read again when they change, as CAFile is.
	TLSCert, TLSKey string
	// Credentials say who calls. They also apply within a handler of package
	// grpcserver, whose caller's token is then not forwarded. Without Credentials it
	// is; a call without a token in its context can only be of a public method.
	Credentials Credentials
	// Timeout of a unary call whose context has no deadline; 10 s (grpcclient.DefaultTimeout) if it is 0.
	Timeout time.Duration
}

// Clients are the clients of all services. They are safe for concurrent use. Close
// them when done.
type Clients struct {
	Accounts   authv1.AccountServiceClient
	Sessions   authv1.SessionServiceClient
	Identities authv1.IdentityServiceClient
	Keys       authv1.TokenServiceClient // for verifiers of access tokens
	APIKeys    authv1.ApiKeyServiceClient
	AuthAdmin  authv1.AdminServiceClient
	Deletions  authv1.DeletionServiceClient
	AuthJobs   jobsv1.JobServiceClient
	AuthStatus statusv1.StatusServiceClient

	Wallets      walletv1.WalletServiceClient
	Tokens       walletv1.TokenServiceClient // the tokens that wallets hold
	Balances     walletv1.BalanceServiceClient
	Prices       walletv1.PriceServiceClient
	Transactions walletv1.TransactionServiceClient
	Positions    walletv1.PositionServiceClient
	Holdings     walletv1.HoldingsServiceClient
	WalletJobs   jobsv1.JobServiceClient
	WalletStatus statusv1.StatusServiceClient

	Portfolios      portfoliov1.PortfolioServiceClient
	Defi            portfoliov1.DefiServiceClient
	Lots            portfoliov1.LotServiceClient
	Alerts          portfoliov1.AlertServiceClient
	PortfolioJobs   jobsv1.JobServiceClient
	PortfolioStatus statusv1.StatusServiceClient

	conns []*grpc.ClientConn
}

// Dial prepares the connections; nothing is called yet. more are further options of
// every connection, such as interceptors, which run inside of those of this package.
func Dial(cfg Config, more ...grpc.DialOption) (*Clients, error) {
	c := &Clients{}
	if err := c.dial(cfg, more); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Clients) dial(cfg Config, more []grpc.DialOption) error {
	var s signer
	if cfg.Credentials != nil {
		more = append([]grpc.DialOption{grpc.WithChainUnaryInterceptor(s.unary),
			grpc.WithChainStreamInterceptor(s.stream)}, more...)
	}
	auth, err := c.connect("auth", cfg.Auth, cfg, more,
		authv1.AccountService_ServiceDesc, authv1.SessionService_ServiceDesc, authv1.IdentityService_ServiceDesc,
		authv1.TokenService_ServiceDesc, authv1.ApiKeyService_ServiceDesc, authv1.AdminService_ServiceDesc,
		authv1.DeletionService_ServiceDesc, jobsv1.JobService_ServiceDesc, statusv1.StatusService_ServiceDesc)
	if err != nil {
		return err
	}
	wallet, err := c.connect("wallet", cfg.Wallet, cfg, more,
		walletv1.WalletService_ServiceDesc, walletv1.TokenService_ServiceDesc, walletv1.BalanceService_ServiceDesc,
		walletv1.PriceService_ServiceDesc, walletv1.HoldingsService_ServiceDesc,
		walletv1.TransactionService_ServiceDesc, walletv1.PositionService_ServiceDesc,
		jobsv1.JobService_ServiceDesc, statusv1.StatusService_ServiceDesc)
	if err != nil {
		return err
	}
	portfolio, err := c.connect("portfolio", cfg.Portfolio, cfg, more,
		portfoliov1.PortfolioService_ServiceDesc, portfoliov1.DefiService_ServiceDesc,
		portfoliov1.LotService_ServiceDesc, portfoliov1.AlertService_ServiceDesc,
		jobsv1.JobService_ServiceDesc, statusv1.StatusService_ServiceDesc)
	if err != nil {
		return err
	}
	if auth != nil {
		c.Accounts, c.Sessions, c.Identities = authv1.NewAccountServiceClient(auth),
			authv1.NewSessionServiceClient(auth), authv1.NewIdentityServiceClient(auth)
		c.Keys, c.APIKeys, c.AuthAdmin = authv1.NewTokenServiceClient(auth), authv1.NewApiKeyServiceClient(auth),
			authv1.NewAdminServiceClient(auth)
		c.Deletions = authv1.NewDeletionServiceClient(auth)
		c.AuthJobs, c.AuthStatus = jobsv1.NewJobServiceClient(auth), statusv1.NewStatusServiceClient(auth)
	}
	if wallet != nil {
		c.Wallets, c.Tokens, c.Balances = walletv1.NewWalletServiceClient(wallet),
			walletv1.NewTokenServiceClient(wallet), walletv1.NewBalanceServiceClient(wallet)
		c.Prices, c.Holdings = walletv1.NewPriceServiceClient(wallet), walletv1.NewHoldingsServiceClient(wallet)
		c.Transactions = walletv1.NewTransactionServiceClient(wallet)
		c.Positions = walletv1.NewPositionServiceClient(wallet)
		c.WalletJobs, c.WalletStatus = jobsv1.NewJobServiceClient(wallet), statusv1.NewStatusServiceClient(wallet)
	}
	if portfolio != nil {
		c.Portfolios, c.Defi = portfoliov1.NewPortfolioServiceClient(portfolio),
			portfoliov1.NewDefiServiceClient(portfolio)
		c.Lots, c.Alerts = portfoliov1.NewLotServiceClient(portfolio), portfoliov1.NewAlertServiceClient(portfolio)
		c.PortfolioJobs, c.PortfolioStatus = jobsv1.NewJobServiceClient(portfolio),
			statusv1.NewStatusServiceClient(portfolio)
	}
	if cfg.Credentials != nil {
		s.tokens, err = cfg.Credentials(c)
	}
	return err
}

// connect prepares the connection to a service; it is nil without an address.
func (c *Clients) connect(name, addr string, cfg Config, more []grpc.DialOption,
	services ...grpc.ServiceDesc) (*grpc.ClientConn, error) {
	if addr == "" {
		return nil, nil //nolint:nilnil // a service without an address has no connection
	}
	var idempotent []string
	for _, s := range services {
		idempotent = append(idempotent, access.Idempotent(s.ServiceName)...)
	}
	conn, err := grpcclient.Dial(grpcclient.Config{
		Addr: addr, Plaintext: cfg.Plaintext, CAFile: cfg.CAFile, TLSCert: cfg.TLSCert,
		TLSKey: cfg.TLSKey, NoForward: cfg.Credentials != nil,
		Timeout: cfg.Timeout,
	}, idempotent, more...)
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", name, err)
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

// Close closes the connections; calls in progress fail. A session that was started
// stays until it expires, unless Sessions.Logout ended it before.
func (c *Clients) Close() error {
	var failures []error
	for _, conn := range c.conns {
		failures = append(failures, conn.Close())
	}
	return errors.Join(failures...)
}
