// Command caller calls the three services at a steady pace from a pod, with several kinds
// of clients, and prints what came of it once a second. The test in the folder above
// starts it.
//
// Each kind of client has an account of its own. The token of the client that the program
// beside it has (folder node) is written to a file. No client repeats a call, except as
// gRPC itself does.
package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const (
	callTimeout  = 10 * time.Second
	tokenRefresh = 2 * time.Minute // less than the life of a token
)

// methods are what is called, by service. Their requests may be empty.
func methods() map[string]string {
	return map[string]string{
		"auth":      "/purser.auth.v1.AccountService/GetMe",
		"wallet":    "/purser.wallet.v1.WalletService/ListWallets",
		"portfolio": "/purser.portfolio.v1.PortfolioService/GetValuation",
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// address is that of a service, by the name that CALLER_DOMAIN ends.
func address(service string) string { return service + os.Getenv("CALLER_DOMAIN") + ":9000" }

func run(ctx context.Context) error {
	rate, err := strconv.Atoi(os.Getenv("CALLER_RATE"))
	if err != nil || rate < 1 {
		return errors.New("CALLER_RATE must be the calls of each client to each service in a second")
	}
	auth, err := purser("auth")
	if err != nil {
		return err
	}
	var all []*tally
	for kind, dial := range map[string]func(string) (*grpc.ClientConn, error){
		"purser": purser, "round_robin": plain("round_robin"), "pick_first": plain("pick_first"), "node": nil,
	} {
		token, err := signIn(ctx, auth, kind)
		if err != nil {
			return fmt.Errorf("sign in as %s: %w", kind, err)
		}
		if dial == nil {
			continue // the program beside this one reads the file
		}
		for service, method := range methods() {
			conn, err := dial(service)
			if err != nil {
				return err
			}
			c := &tally{Client: kind, Service: service, Peers: map[string]int{}}
			all = append(all, c)
			go c.callAll(ctx, conn, method, rate, token)
		}
	}
	out := json.NewEncoder(os.Stdout)
	for ticks := time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
			for _, c := range all {
				if err := c.print(out); err != nil {
					return err
				}
			}
		}
	}
}

// purser connects with the library's client, without the methods that may be repeated.
func purser(service string) (*grpc.ClientConn, error) {
	return grpcclient.Dial(grpcclient.Config{Addr: address(service), CAFile: os.Getenv("CALLER_CA"),
		TLSCert: os.Getenv("CALLER_CERT"), TLSKey: os.Getenv("CALLER_KEY")}, nil)
}

// plain connects with gRPC's client.
func plain(policy string) func(string) (*grpc.ClientConn, error) {
	return func(service string) (*grpc.ClientConn, error) {
		pem, err := os.ReadFile(os.Getenv("CALLER_CA"))
		if err != nil {
			return nil, err
		}
		own, err := tls.LoadX509KeyPair(os.Getenv("CALLER_CERT"), os.Getenv("CALLER_KEY"))
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		return grpc.NewClient("dns:///"+address(service),
			grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots,
				Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13})),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"`+policy+`": {}}]}`))
	}
}

// signIn registers an account and keeps a token of it, which the function returns, also
// in a file.
func signIn(ctx context.Context, auth *grpc.ClientConn, kind string) (func() string, error) {
	email, password := fmt.Sprintf("%s-%s@example.com", kind, rand.Text()), rand.Text()
	if _, err := authv1.NewAccountServiceClient(auth).Register(ctx,
		&authv1.RegisterRequest{Email: email, Password: password}); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var token string
	login := func() error {
		resp, err := authv1.NewSessionServiceClient(auth).Login(ctx,
			&authv1.LoginRequest{Email: email, Password: password})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		token = resp.GetTokens().GetAccessToken()
		path := filepath.Join(os.Getenv("CALLER_TOKENS"), kind)
		if err := os.WriteFile(path+".new", []byte(token), 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}
	if err := login(); err != nil {
		return nil, err
	}
	go func() {
		for ticks := time.NewTicker(tokenRefresh); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				if err := login(); err != nil {
					fmt.Fprintln(os.Stderr, "sign in again:", err) // once more after a tokenRefresh
				}
			}
		}
	}()
	return func() string { mu.Lock(); defer mu.Unlock(); return token }, nil
}

// tally is what came of the calls of one client to one service.
type tally struct {
	mu sync.Mutex
	// Client and Service name it.
	Client  string `json:"client"`
	Service string `json:"service"`
	// Calls that have ended, and those of them that failed.
	Calls  int `json:"calls"`
	Failed int `json:"failed"`
	// Outage is the number of seconds in which a call began that failed.
	Outage int `json:"outage"`
	// First is the error of the first call that failed.
	First string `json:"first"`
	// Peers are the calls by the replica's address.
	Peers map[string]int `json:"peers"`

	lastOutage int64
}

// callAll makes rate calls a second, each in its time whether or not those before it have
// ended.
func (c *tally) callAll(ctx context.Context, conn *grpc.ClientConn, method string, rate int, token func() string) {
	for ticks := time.NewTicker(time.Second / time.Duration(rate)); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			go c.call(conn, method, token())
		}
	}
}

func (c *tally) call(conn *grpc.ClientConn, method, token string) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	var from peer.Peer
	err := conn.Invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), method,
		&emptypb.Empty{}, &emptypb.Empty{}, grpc.Peer(&from))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Calls++
	if from.Addr != nil {
		c.Peers[from.Addr.String()]++
	}
	if err == nil {
		return
	}
	if c.Failed++; c.First == "" {
		c.First = fmt.Sprintf("%s, after %s: %v", begun.Format(time.TimeOnly), time.Since(begun), err)
	}
	if begun.Unix() != c.lastOutage {
		c.lastOutage = begun.Unix()
		c.Outage++
	}
}

func (c *tally) print(out *json.Encoder) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return out.Encode(c)
}
