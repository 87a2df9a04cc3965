package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/testkit/testca"
	"github.com/purserhq/purser/proto/client"
	"github.com/purserhq/purser/services/devstack/programs"
	"github.com/purserhq/purser/services/devstack/suite"
)

// TestBed is the services as processes with mutual TLS, on a Postgres and a Redis of their own, with users. Close it.
type TestBed struct {
	// Name is shown, such as "after".
	Name string

	dir            string
	infrastructure *suite.Infrastructure
	running        *programs.Secured
	clients        *client.Clients
	product        *Product
	shares         *Shares
}

// unlimited are settings of each service: the generator is one address, and a user does the work of many.
func unlimited() []string {
	return []string{"PURSER_GRPC_RATE_PER_SECOND=1000000", "PURSER_GRPC_BURST=1000000"}
}

// chainHistory is what the embedded chain has, for the history of users.
const chainHistory = backfillRange + 12*time.Hour

// NewTestBed starts the programs of a folder, with so many users.
func NewTestBed(ctx context.Context, name, built string, users int) (_ *TestBed, err error) {
	s := &TestBed{Name: name}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", name, err), s.Close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "purser-load-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil { // the postgres user enters it
		return nil, err
	}
	s.infrastructure, err = suite.StartInfrastructure(ctx, suite.Options{Dir: s.dir, History: chainHistory,
		Durable: true,
		Extra: map[string][]string{
			"auth":   append(unlimited(), "PURSER_ATTEMPTS_PER_ADDRESS=1000000"),
			"wallet": unlimited(), "portfolio": unlimited(),
		}})
	if err != nil {
		return nil, err
	}
	ca, err := testca.Make("load")
	if err != nil {
		return nil, err
	}
	certificates, err := programs.NewCertificates(filepath.Join(s.dir, "tls"), ca)
	if err != nil {
		return nil, err
	}
	if s.running, err = programs.StartSecured(ctx, built, s.infrastructure, certificates); err != nil {
		return nil, err
	}
	if s.clients, err = certificates.Dial(s.running.Endpoints); err != nil {
		return nil, err
	}
	var accounts []string
	for _, h := range s.infrastructure.Chain.Holders() {
		accounts = append(accounts, fmt.Sprintf("eip155:%d:%s", s.infrastructure.Chain.ChainID(), h.Hex()))
	}
	if s.product, err = NewProduct(ctx, s.clients, users, accounts); err != nil {
		return nil, err
	}
	parts, err := s.parts()
	if err != nil {
		return nil, err
	}
	s.shares, err = NewShares(parts...)
	return s, err
}

// parts are the processes of the stand.
func (s *TestBed) parts() ([]Part, error) {
	var parts []Part
	for i, name := range programs.Names() {
		parts = append(parts, Part{name, s.running.Running[i].Pid()})
	}
	for _, server := range [][2]string{{"Postgres", "postgres/data/postmaster.pid"}, {"Redis", "redis/redis.pid"}} {
		text, err := os.ReadFile(filepath.Join(s.dir, server[1]))
		if err != nil {
			return nil, err
		}
		line, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", server[1], err)
		}
		parts = append(parts, Part{server[0], pid})
	}
	return parts, nil
}

// Memory is the resident set of each service in bytes, in the order of programs.Names.
func (s *TestBed) Memory() ([]int, error) {
	var all []int
	for _, p := range s.running.Running {
		n, err := programs.Memory(p.Pid())
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// stopTimeout bounds the end of the servers.
const stopTimeout = 30 * time.Second

// Close ends everything and removes the data.
func (s *TestBed) Close() error {
	var failed []error
	if s.product != nil {
		s.product.Close()
	}
	if s.clients != nil {
		failed = append(failed, s.clients.Close())
	}
	if s.running != nil {
		failed = append(failed, s.running.Stop())
	}
	if s.infrastructure != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		failed = append(failed, s.infrastructure.Close(ctx))
	}
	if s.dir != "" {
		failed = append(failed, os.RemoveAll(s.dir))
	}
	return errors.Join(failed...)
}
