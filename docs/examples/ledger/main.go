// Command ledger is an example of another team's service: it accepts Purser's access
// tokens, and takes its access rules from its own contract.
package main

import (
	"context"
	"log"
	"log/slog"
	"os"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/proto/access"

	ledgerv1 "example.com/ledger/gen/example/ledger/v1"
)

type settings struct {
	GRPC   grpcserver.Config `envPrefix:"GRPC_"`
	Tokens authn.Config
}

type ledger struct {
	ledgerv1.UnimplementedLedgerServiceServer
}

// ListEntries is called only with the permission portfolio:read, as its contract
// requires.
func (ledger) ListEntries(ctx context.Context, _ *ledgerv1.ListEntriesRequest) (*ledgerv1.ListEntriesResponse, error) {
	return &ledgerv1.ListEntriesResponse{Entries: []string{"opened by " + authn.CallerFrom(ctx).UserID.String()}}, nil
}

// must ends the program on an error.
func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	var s settings
	if err := config.Load(os.Environ(), &s); err != nil {
		log.Fatal(err)
	}
	keys := must(s.Tokens.RemoteKeys(slog.Default()))
	server := must(grpcserver.New(s.GRPC, grpcserver.Deps{Rules: access.Lookup, Log: slog.Default(),
		Verifier: authn.NewVerifier(keys, authn.Options{Issuer: s.Tokens.Issuer})}))
	ledgerv1.RegisterLedgerServiceServer(server, ledger{})
	parts := lifecycle.New(lifecycle.Config{}, slog.Default())
	must(server.Listen(context.Background(), parts))
	log.Fatal(parts.Run(context.Background()))
}
