package benchmarks

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/programs"
	"github.com/purserhq/purser/services/devstack/suite"
)

// BenchmarkStart measures each service from the start of its program to ready, on a database that has its schema, with
// the other services running. The goal: 150 ms.
func BenchmarkStart(b *testing.B) {
	dir := testkit.Folder(b)
	if err := programs.Build(b.Context(), "../../..", filepath.Join(dir, "bin"), programs.Names()...); err != nil {
		b.Fatal(err)
	}
	infrastructure, err := suite.StartInfrastructure(b.Context(), suite.Options{Dir: filepath.Join(dir, "data"),
		History: 24 * time.Hour})
	b.Cleanup(func() { _ = infrastructure.Close(context.Background()) })
	if err != nil {
		b.Fatal(err)
	}
	var e suite.Endpoints
	for _, name := range programs.Names() {
		environ := map[string]func() []string{"auth": infrastructure.AuthEnviron,
			"wallet":    func() []string { return infrastructure.WalletEnviron(e) },
			"portfolio": func() []string { return infrastructure.PortfolioEnviron(e) }}[name]()
		program := filepath.Join(dir, "bin", name)
		if err := programs.Migrate(b.Context(), program, environ); err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				p := launch(b, program, environ)
				b.StopTimer()
				if err := p.End(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(0.15, "goal-s") // after the loop, whose begin clears it
		})
		p := launch(b, program, environ)
		b.Cleanup(func() { _ = p.End() })
		switch name {
		case "auth":
			e.Auth, e.AuthHTTP = p.Addrs["grpc"], p.Addrs["http"]
		case "wallet":
			e.Wallet = p.Addrs["grpc"]
		}
	}
}

// launch starts a program and fails unless it is ready when it serves.
func launch(b *testing.B, program string, environ []string) *programs.Process {
	b.Helper()
	p, err := programs.Launch(program, environ)
	if err != nil {
		b.Fatal(err)
	}
	if !p.Ready {
		_ = p.End()
		b.Fatalf("%s was not ready when it began to serve", program)
	}
	return p
}
