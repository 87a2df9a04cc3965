package app_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/portfolio/app"
)

// calls are all methods, each called for the portfolio with this id.
func (s service) calls(id string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"GetPortfolio": func(ctx context.Context) error {
			_, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: id})
			return err
		},
		"GetValuation": func(ctx context.Context) error {
			_, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{PortfolioId: id})
			return err
		},
		"TakeSnapshot": func(ctx context.Context) error {
			_, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{PortfolioId: id})
			return err
		},
		"ListSnapshots": func(ctx context.Context) error {
			_, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PortfolioId: id})
			return err
		},
		"GetTimeline": func(ctx context.Context) error {
			_, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{PortfolioId: id})
			return err
		},
		"GetPerformance": func(ctx context.Context) error {
			_, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{PortfolioId: id})
			return err
		},
		"GetKpi": func(ctx context.Context) error {
			_, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{PortfolioId: id})
			return err
		},
		"GetAllocation": func(ctx context.Context) error {
			_, err := s.GetAllocation(ctx, &portfoliov1.GetAllocationRequest{PortfolioId: id})
			return err
		},
		"GetPositions": func(ctx context.Context) error {
			_, err := s.defi.GetPositions(ctx, &portfoliov1.GetPositionsRequest{PortfolioId: id})
			return err
		},
		"GetHealth": func(ctx context.Context) error {
			_, err := s.defi.GetHealth(ctx, &portfoliov1.GetHealthRequest{PortfolioId: id})
			return err
		},
		"GetProtocolBreakdown": func(ctx context.Context) error {
			_, err := s.defi.GetProtocolBreakdown(ctx, &portfoliov1.GetProtocolBreakdownRequest{PortfolioId: id})
			return err
		},
		"ExportSnapshots": func(ctx context.Context) error {
			_, _, err := s.export(ctx, &portfoliov1.ExportSnapshotsRequest{PortfolioId: id})
			return err
		},
		"WatchValuation": func(ctx context.Context) error {
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			stream, err := s.WatchValuation(ctx, &portfoliov1.WatchValuationRequest{PortfolioId: id})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		},
		"GetAllocationHistory": func(ctx context.Context) error {
			_, err := s.GetAllocationHistory(ctx, &portfoliov1.GetAllocationHistoryRequest{PortfolioId: id})
			return err
		},
	}
}

func TestAPortfolioOfSomebodyElseIsNotFound(t *testing.T) {
	t.Parallel()
	s := start(t)
	mine, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	mallory, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	p, err := s.GetPortfolio(mine, &portfoliov1.GetPortfolioRequest{})
	if err != nil || !p.GetPortfolio().GetDefault() {
		t.Fatal(p, err)
	}
	id := p.GetPortfolio().GetId()
	for name, call := range s.calls(id) {
		t.Run(name, func(t *testing.T) {
			theirs := servicetest.WantError(t, call(mallory), errs.KindNotFound, "NOT_FOUND")
			for _, nobodys := range []string{uuid.NewString(), uuid.Nil.String()} {
				// The id that was given is all that differs.
				if e := servicetest.WantError(t, s.calls(nobodys)[name](mallory), errs.KindNotFound,
					"NOT_FOUND"); e.Error() != strings.ReplaceAll(theirs.Error(), id, nobodys) {
					t.Errorf("told apart: %v and %v", theirs, e)
				}
			}
			servicetest.WantError(t, s.calls("mine")[name](mallory), errs.KindInvalid, "INVALID_ARGUMENT")
			if err := call(mine); err != nil {
				t.Errorf("the owner: %v", err)
			}
		})
	}
}

func TestEveryMethodAsksForItsPermission(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, call := range s.calls("") {
		t.Run(name, func(t *testing.T) {
			needs := "portfolio:read"
			if name == "TakeSnapshot" {
				needs = "portfolio:write"
			}
			servicetest.WantError(t, call(t.Context()), errs.KindUnauthenticated, "TOKEN_MISSING")
			for _, p := range []string{"", "portfolio:read", "portfolio:write", "wallet:read", "portfolio:any"} {
				ctx, _ := s.newUser(t, p)
				if err := call(ctx); p == needs && err != nil ||
					p != needs && !errs.Is(err, errs.KindPermissionDenied) {
					t.Errorf("with %q: %v", p, err)
				}
			}
		})
	}
}

func TestAValuationUsesTheCallersTokenAndIsTheLastSnapshotWhileWalletIsUnavailable(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, token := s.newUser(t, "portfolio:read", "portfolio:write")
	s.wallet.setUnavailable(true)
	_, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	servicetest.WantError(t, err, errs.KindUnavailable, "WALLET_UNAVAILABLE")
	_, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{})
	servicetest.WantError(t, err, errs.KindUnavailable, "WALLET_UNAVAILABLE")
	if list, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{}); err != nil ||
		len(list.GetSnapshots()) != 0 {
		t.Fatalf("stored while the wallet service was unavailable: %v, %v", list, err)
	}
	s.wallet.setUnavailable(false)
	fresh, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if v := fresh.GetValuation(); err != nil || v.GetTotal() != "2736.79500000" || v.GetStale() || !v.GetComplete() ||
		v.GetPositions()[0].GetShare() != 1 {
		t.Fatalf("valued %v, %v", fresh, err)
	}
	for i, stored := range []bool{true, false} {
		if snap, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil ||
			snap.GetStored() != stored || snap.GetSnapshot().GetTotal() != "2736.79500000" {
			t.Fatalf("snapshot %d: %v, %v", i, snap, err)
		}
	}
	s.wallet.setUnavailable(true)
	last, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if v := last.GetValuation(); err != nil || v.GetTotal() != "2736.79500000" || !v.GetStale() || v.GetComplete() ||
		len(v.GetPositions()) != 1 {
		t.Fatalf("the last snapshot: %v, %v", last, err)
	}
	// As of a time it needs no wallet service.
	then, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{AsOfTime: timestamppb.Now()})
	if v := then.GetValuation(); err != nil || v.GetTotal() != "2736.79500000" || v.GetStale() || !v.GetComplete() ||
		len(v.GetPositions()) != 1 || v.GetPositions()[0].GetPrice() == "" {
		t.Errorf("as of now: %v, %v", then, err)
	}
	_, err = s.GetValuation(ctx, &portfoliov1.GetValuationRequest{
		AsOfTime: timestamppb.New(time.Now().Add(-24 * time.Hour))})
	servicetest.WantError(t, err, errs.KindFailedPrecondition, "NO_SNAPSHOT")
	points, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{})
	if p := points.GetPoints(); err != nil || len(p) == 0 || p[len(p)-1].GetClose() != "2736.79500000" {
		t.Errorf("timeline %v, %v", points, err)
	}
	for _, got := range s.wallet.tokensSeen() {
		if got != token {
			t.Error("the wallet service was called in another's name")
		}
	}
}

func TestBadInputNamesItsField(t *testing.T) {
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read")
	timeline := func(r *portfoliov1.GetTimelineRequest) error { _, err := s.GetTimeline(ctx, r); return err }
	list := func(r *portfoliov1.ListSnapshotsRequest) error { _, err := s.ListSnapshots(ctx, r); return err }
	soon := timestamppb.New(time.Now().Add(time.Hour))
	for _, tc := range []struct {
		name, field string
		err         error
	}{
		{"a value of the future", "as_of_time", func() error {
			_, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{AsOfTime: soon})
			return err
		}()},
		{"an end in the future", "end_time", timeline(&portfoliov1.GetTimelineRequest{EndTime: soon})},
		{"a start in the future", "start_time", timeline(&portfoliov1.GetTimelineRequest{StartTime: soon})},
		{"six years", "start_time", timeline(
			&portfoliov1.GetTimelineRequest{StartTime: timestamppb.New(time.Now().AddDate(-6, 0, 0))})},
		{"a time that is none", "start_time",
			timeline(&portfoliov1.GetTimelineRequest{StartTime: &timestamppb.Timestamp{Seconds: 1 << 60}})},
		{"a zone that nobody has", "time_zone", timeline(&portfoliov1.GetTimelineRequest{TimeZone: "Mars/Olympus"})},
		{"too many points", "limit", timeline(&portfoliov1.GetTimelineRequest{Limit: 5001})},
		{"an interval that nobody knows", "interval", timeline(&portfoliov1.GetTimelineRequest{Interval: 77})},
		{"a page of 501", "page_size", list(&portfoliov1.ListSnapshotsRequest{PageSize: 501})},
		{"a page token that is none", "page_token", list(&portfoliov1.ListSnapshotsRequest{PageToken: "x"})},
	} {
		t.Run(tc.name, func(t *testing.T) { servicetest.WantViolation(t, tc.err, tc.field) })
	}
}

func TestConfiguration(t *testing.T) {
	_, err := app.Load([]string{"PURSER_ISSUER=auth", "PURSER_JWKS_URL=keys", "PURSER_GRPC_BURST=0",
		"PURSER_CACHE_TIMELINE_TTL=0s", "PURSER_CACHE_VALUATION_TTL=1h", "PURSER_HISTORY_MONTHS_AHEAD=25",
		"PURSER_HISTORY_RETENTION_MONTHS=-1"})
	if err == nil {
		t.Fatal("taken")
	}
	for _, name := range []string{"PURSER_DATABASE_URL", "PURSER_REDIS_URL", "PURSER_ISSUER", "PURSER_JWKS_URL",
		"PURSER_WALLET_ADDR", "PURSER_GRPC_BURST", "PURSER_GRPC_TLS_CERT", "PURSER_CACHE_TIMELINE_TTL",
		"PURSER_CACHE_VALUATION_TTL", "PURSER_HISTORY_MONTHS_AHEAD", "PURSER_HISTORY_RETENTION_MONTHS"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
	cfg, err := app.Load([]string{
		"PURSER_DATABASE_URL=postgres://u:hunter2@db/x", "PURSER_REDIS_URL=redis://:hunter2@r",
		"PURSER_ISSUER=https://auth.example",
		"PURSER_WALLET_ADDR=wallet:443", "PURSER_GRPC_PLAINTEXT=true",
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := config.Print(&out, cfg); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") ||
		!strings.Contains(out.String(), "PURSER_WALLET_ADDR=wallet:443\n") {
		t.Errorf("printed\n%s", out.String())
	}
}
