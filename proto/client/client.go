// Package client calls Purser's services from a Go program: one Dial gives the
// typed clients of all of them, with the retries, limits and typed errors of
// package grpcclient and a token on every call that needs one.
//
// It promises: what the contracts call repeatable is retried when a service is
// UNAVAILABLE, and nothing else; a token is fetched ahead, by one call however
// many ask; a call that is refused is never repeated. Errors of calls carry an
// *errs.Error, see errs.As.
//
// Limits: the clock has to be right to within a token's time, 5 minutes at
// the least. One Clients calls as one caller; a gateway that calls as many puts
// each one's token into the context (grpcclient.WithToken), which wins.
package client

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// Config of the connections.
type Config struct {
	// Auth, Wallet and Portfolio are where the services are, each host:port or a
	// gRPC target. A service without an address is not called: its clients are
	// nil.
	Auth, Wallet, Portfolio string
	// Plaintext calls without TLS; it has to be asked for.
	Plaintext bool
	// CAFile is a PEM file of roots to trust instead of the system's.
	CAFile string
	// Credentials say who calls, also within a handler of package grpcserver,
	// whose caller's token is not forwarded. With nil it is, and else only public
	// methods can be called, and those whose context has a token.
	Credentials Credentials
}

// Clients of the services, safe for concurrent use. Close them when done.
type Clients struct {
	Accounts   authv1.AccountServiceClient
	Sessions   authv1.SessionServiceClient
	Identities authv1.IdentityServiceClient
	Keys       authv1.TokenServiceClient // what verifiers ask for
	APIKeys    authv1.ApiKeyServiceClient
	AuthAdmin  authv1.AdminServiceClient
	AuthJobs   jobsv1.JobServiceClient

	Wallets    walletv1.WalletServiceClient
	Tokens     walletv1.TokenServiceClient // what wallets hold
	Balances   walletv1.BalanceServiceClient
	Prices     walletv1.PriceServiceClient
	Holdings   walletv1.HoldingsServiceClient
	WalletJobs jobsv1.JobServiceClient

	Portfolios    portfoliov1.PortfolioServiceClient
	PortfolioJobs jobsv1.JobServiceClient

	conns []*grpc.ClientConn
}

// Dial prepares the connections; nothing is called yet. more are options of
// every connection, such as interceptors, which run inside those of this
// package.
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
		jobsv1.JobService_ServiceDesc)
	if err != nil {
		return err
	}
	wallet, err := c.connect("wallet", cfg.Wallet, cfg, more,
		walletv1.WalletService_ServiceDesc, walletv1.TokenService_ServiceDesc, walletv1.BalanceService_ServiceDesc,
		walletv1.PriceService_ServiceDesc, walletv1.HoldingsService_ServiceDesc, jobsv1.JobService_ServiceDesc)
	if err != nil {
		return err
	}
	portfolio, err := c.connect("portfolio", cfg.Portfolio, cfg, more,
		portfoliov1.PortfolioService_ServiceDesc, jobsv1.JobService_ServiceDesc)
	if err != nil {
		return err
	}
	if auth != nil {
		c.Accounts, c.Sessions, c.Identities = authv1.NewAccountServiceClient(auth),
			authv1.NewSessionServiceClient(auth), authv1.NewIdentityServiceClient(auth)
		c.Keys, c.APIKeys, c.AuthAdmin = authv1.NewTokenServiceClient(auth), authv1.NewApiKeyServiceClient(auth),
			authv1.NewAdminServiceClient(auth)
		c.AuthJobs = jobsv1.NewJobServiceClient(auth)
	}
	if wallet != nil {
		c.Wallets, c.Tokens, c.Balances = walletv1.NewWalletServiceClient(wallet),
			walletv1.NewTokenServiceClient(wallet), walletv1.NewBalanceServiceClient(wallet)
		c.Prices, c.Holdings, c.WalletJobs = walletv1.NewPriceServiceClient(wallet),
			walletv1.NewHoldingsServiceClient(wallet), jobsv1.NewJobServiceClient(wallet)
	}
	if portfolio != nil {
		c.Portfolios, c.PortfolioJobs = portfoliov1.NewPortfolioServiceClient(portfolio),
			jobsv1.NewJobServiceClient(portfolio)
	}
	if cfg.Credentials != nil {
		s.tokens, err = cfg.Credentials(c)
	}
	return err
}

// connect prepares the connection to a service, nil when it has no address.
func (c *Clients) connect(name, addr string, cfg Config, more []grpc.DialOption,
	services ...grpc.ServiceDesc) (*grpc.ClientConn, error) {
	if addr == "" {
		return nil, nil //nolint:nilnil // no connection is what there is
	}
	var idempotent []string
	for _, s := range services {
		idempotent = append(idempotent, access.Idempotent(s.ServiceName)...)
	}
	conn, err := grpcclient.Dial(grpcclient.Config{
		Addr: addr, Plaintext: cfg.Plaintext, CAFile: cfg.CAFile, NoForward: cfg.Credentials != nil,
	}, idempotent, more...)
	if err != nil {
		return nil, fmt.Errorf("client: %s: %w", name, err)
	}
	c.conns = append(c.conns, conn)
	return conn, nil
}

// Close closes the connections; calls under way fail. A session that was begun
// goes on until it expires: Sessions.Logout ends it.
func (c *Clients) Close() error {
	var failures []error
	for _, conn := range c.conns {
		failures = append(failures, conn.Close())
	}
	return errors.Join(failures...)
}
