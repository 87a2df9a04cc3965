package app_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// By hand: 20 USD from the start; in the third hour a wallet of 1000 tokens at 2 USD joins,
// and leaves in the fifth. Its 2000 USD come in and go out, and nothing is earned.
func TestAWalletThatJoinsAndLeavesIsAFlowAtItsValue(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(6)
	stays, joins := uuid.NewString(), uuid.NewString()
	s.wallet.setOwned(ownedWallet{id: stays, amount: "10"}, ownedWallet{id: joins, amount: "1000"})
	p := s.create(ctx, t, "Vault", from, stays)
	if stored := s.recompute(ctx, t, p.GetId(), from, until, false); stored != 6 {
		t.Fatal(stored)
	}
	change := func(hour int, add, remove []string) {
		t.Helper()
		if _, err := s.ChangePortfolioWallets(ctx, &portfoliov1.ChangePortfolioWalletsRequest{PortfolioId: p.GetId(),
			AddWalletIds: add, RemoveWalletIds: remove,
			EffectiveTime: timestamppb.New(from.Add(time.Duration(hour)*time.Hour + 59*time.Minute))}); err != nil {
			t.Fatal(err)
		}
	}
	change(2, []string{joins}, nil)
	if got := s.chart(ctx, t, p.GetId(), from, until); got != "20 20 20?! 20?! 20?! 20?!" {
		t.Errorf("out of date is %s", got)
	}
	change(4, nil, []string{joins})
	if stored := s.recompute(ctx, t, p.GetId(), from, until, false); stored != 4 {
		t.Errorf("%d are stored again", stored)
	}
	if got := s.chart(ctx, t, p.GetId(), from, until); got != "20 20 2020 2020 20 20" {
		t.Errorf("the chart is %s", got)
	}
	list, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PortfolioId: p.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	var flows []string
	for _, snap := range slices.Backward(list.GetSnapshots()) {
		flows = append(flows, whole(snap.GetNetFlow()))
	}
	if fmt.Sprint(flows) != "[ 0 2000 0 -2000 0]" {
		t.Errorf("the flows are %q", flows)
	}
	perf, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{PortfolioId: p.GetId(),
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
	m := perf.GetPerformance()
	if err != nil || whole(m.GetInflow()) != "2000" || whole(m.GetOutflow()) != "2000" || whole(m.GetGain()) != "0" ||
		math.Abs(m.GetTimeWeighted().GetPeriod().GetValue()) > 1e-12 || m.GetTimeWeighted().GetPeriod().Value == nil {
		t.Errorf("%v, %v", m, err)
	}
	members, err := s.ListMemberships(ctx, &portfoliov1.ListMembershipsRequest{PortfolioId: p.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, m := range members.GetMemberships() {
		lines = append(lines, fmt.Sprintf("%d:%d", max(-1, int(m.GetStartTime().AsTime().Sub(from).Hours())),
			len(m.GetWalletIds())))
	}
	if fmt.Sprint(lines) != "[-1:0 0:1 2:2 4:1]" {
		t.Errorf("the memberships are %v", lines)
	}
	// In pages they are the same.
	var paged []*portfoliov1.Membership
	for token := ""; ; {
		page, err := s.ListMemberships(ctx, &portfoliov1.ListMembershipsRequest{PortfolioId: p.GetId(), PageSize: 1,
			PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		paged = append(paged, page.GetMemberships()...)
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if fmt.Sprint(paged) != fmt.Sprint(members.GetMemberships()) {
		t.Errorf("in pages %v", paged)
	}
}

// A wallet that is deleted leaves at that hour, and what it was worth before stays.
func TestADeletedWalletLeavesANamedPortfolioNow(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(3)
	stays, goes := ownedWallet{id: uuid.NewString(), amount: "10"}, ownedWallet{id: uuid.NewString(), amount: "1000"}
	s.wallet.setOwned(stays, goes)
	p := s.create(ctx, t, "Vault", from, stays.id, goes.id)
	s.recompute(ctx, t, p.GetId(), from, until, false)
	take := func() {
		t.Helper()
		if _, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{PortfolioId: p.GetId()}); err != nil {
			t.Fatal(err)
		}
	}
	take()
	s.wallet.setOwned(stays)
	take()
	if got := s.chart(ctx, t, p.GetId(), from, until.Add(time.Minute)); got != "2020 2020 2020 20" {
		t.Errorf("the chart is %s", got)
	}
	if got, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: p.GetId()}); err != nil ||
		!slices.Equal(got.GetPortfolio().GetWalletIds(), []string{stays.id}) {
		t.Error(got, err)
	}
	// What was complete stays when all is recomputed, since nothing is known any more.
	s.recompute(ctx, t, p.GetId(), from, until, true)
	if got := s.chart(ctx, t, p.GetId(), from, until); got != "2020 2020 2020" {
		t.Errorf("recomputed the chart is %s", got)
	}
	// A portfolio whose last wallet leaves is worth nothing.
	s.wallet.setOwned()
	take()
	if got := s.chart(ctx, t, p.GetId(), until, until.Add(time.Minute)); got != "0" {
		t.Errorf("without wallets it is %s", got)
	}
}

func TestAPortfolioHasOnlyWalletsOfItsOwner(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	mine, theirs := uuid.NewString(), uuid.NewString()
	s.wallet.setOwned(ownedWallet{id: mine, amount: "10"})
	p := s.create(ctx, t, "Mine", time.Now(), mine)
	named := func(err error) {
		t.Helper()
		servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
		if !strings.Contains(fmt.Sprint(err), theirs) {
			t.Errorf("%v doesn't name %s", err, theirs)
		}
	}
	_, err := s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "x", WalletIds: []string{mine, theirs}})
	named(err)
	_, err = s.SetPortfolioWallets(ctx, &portfoliov1.SetPortfolioWalletsRequest{PortfolioId: p.GetId(),
		WalletIds: []string{theirs}})
	named(err)
	_, err = s.ChangePortfolioWallets(ctx, &portfoliov1.ChangePortfolioWalletsRequest{PortfolioId: p.GetId(),
		AddWalletIds: []string{theirs}})
	named(err)
	// Another's portfolio can't be told from one that doesn't exist.
	mallory, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	for name, id := range map[string]string{"another's": p.GetId(), "nobody's": uuid.NewString()} {
		for method, call := range s.changes(id, mine) {
			if err := call(mallory); !errs.Is(err, errs.KindNotFound) || strings.Contains(fmt.Sprint(err), "Mine") {
				t.Errorf("%s of %s portfolio: %v", method, name, err)
			}
		}
	}
	if got, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: p.GetId()}); err != nil ||
		got.GetPortfolio().GetEtag() != p.GetEtag() {
		t.Errorf("%v, %v", got, err)
	}
	// The default portfolio can be renamed, and nothing else.
	d, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for method, call := range s.changes(d.GetPortfolio().GetId(), mine) {
		switch err := call(ctx); method {
		case "UpdatePortfolio", "ListMemberships", "RecomputeSnapshots":
			if err != nil {
				t.Errorf("%s: %v", method, err)
			}
		default:
			servicetest.WantError(t, err, errs.KindFailedPrecondition, "DEFAULT_PORTFOLIO")
		}
	}
}

// changes are the methods of portfolios with an id, each called with it.
func (s service) changes(id, wallet string) map[string]func(context.Context) error {
	from, until := pastHours(2)
	return map[string]func(context.Context) error{
		"UpdatePortfolio": func(ctx context.Context) error {
			_, err := s.UpdatePortfolio(ctx, &portfoliov1.UpdatePortfolioRequest{PortfolioId: id, Name: "y"})
			return err
		},
		"DeletePortfolio": func(ctx context.Context) error {
			_, err := s.DeletePortfolio(ctx, &portfoliov1.DeletePortfolioRequest{PortfolioId: id})
			return err
		},
		"SetPortfolioWallets": func(ctx context.Context) error {
			_, err := s.SetPortfolioWallets(ctx, &portfoliov1.SetPortfolioWalletsRequest{PortfolioId: id,
				WalletIds: []string{wallet}})
			return err
		},
		"ChangePortfolioWallets": func(ctx context.Context) error {
			_, err := s.ChangePortfolioWallets(ctx, &portfoliov1.ChangePortfolioWalletsRequest{PortfolioId: id,
				RemoveWalletIds: []string{wallet}})
			return err
		},
		"ListMemberships": func(ctx context.Context) error {
			_, err := s.ListMemberships(ctx, &portfoliov1.ListMembershipsRequest{PortfolioId: id})
			return err
		},
		"RecomputeSnapshots": func(ctx context.Context) error {
			_, err := s.RecomputeSnapshots(ctx, &portfoliov1.RecomputeSnapshotsRequest{PortfolioId: id,
				StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
			return err
		},
	}
}

func TestAPortfolioIsMadeChangedAndDeleted(t *testing.T) {
	r := startReplicas(t, "PURSER_PORTFOLIOS_PER_OWNER=4")
	s := r.A
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	a, b := uuid.NewString(), uuid.NewString()
	s.wallet.setOwned(ownedWallet{id: a, amount: "10"}, ownedWallet{id: b, amount: "1000"})
	if _, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{}); err != nil { // the default one counts
		t.Fatal(err)
	}
	// Sixteen calls with four request ids make three portfolios, the bound less the default one.
	requests := []string{uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()}
	var made sync.Map
	var refused atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			on := []service{r.A, r.B}[i%2]
			p, err := on.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: " Vault ",
				WalletIds: []string{a}, RequestId: requests[i/4]})
			if e := errs.As(err); e != nil && e.Reason == "TOO_MANY_PORTFOLIOS" && e.Metadata["limit"] == "4" {
				refused.Add(1)
			} else if err != nil || p.GetPortfolio().GetName() != "Vault" {
				t.Error(p, err)
			} else {
				made.Store(p.GetPortfolio().GetId(), requests[i/4])
			}
		})
	}
	all.Wait()
	list, err := r.B.ListPortfolios(ctx, &portfoliov1.ListPortfoliosRequest{})
	if err != nil || len(list.GetPortfolios()) != 4 || refused.Load() != 4 {
		t.Fatalf("%d portfolios, %d refused, %v", len(list.GetPortfolios()), refused.Load(), err)
	}
	p := list.GetPortfolios()[3]
	winner, ok := made.Load(p.GetId())
	if !ok || !slices.Equal(p.GetWalletIds(), []string{a}) {
		t.Fatalf("%v", p)
	}
	_, err = s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "Other", RequestId: winner.(string)})
	servicetest.WantViolation(t, err, "request_id")
	// Of two changes of what both have read one is done.
	failures := make([]error, 2)
	for i, wallet := range []string{a, b} {
		all.Go(func() {
			_, failures[i] = []service{r.A, r.B}[i].SetPortfolioWallets(ctx, &portfoliov1.SetPortfolioWalletsRequest{
				PortfolioId: p.GetId(), WalletIds: []string{b, wallet}, Etag: p.GetEtag()})
		})
	}
	all.Wait()
	if (failures[0] == nil) == (failures[1] == nil) {
		t.Errorf("of two one is done: %v", failures)
	}
	now, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: p.GetId()})
	if err != nil || now.GetPortfolio().GetEtag() == p.GetEtag() {
		t.Fatal(now, err)
	}
	for _, err := range failures {
		if err != nil {
			servicetest.WantError(t, err, errs.KindConflict, "ETAG_MISMATCH")
			if e := errs.As(err); e.Metadata["current_etag"] != now.GetPortfolio().GetEtag() {
				t.Errorf("%v has not the etag %s", e.Metadata, now.GetPortfolio().GetEtag())
			}
		}
	}
	renamed, err := s.UpdatePortfolio(ctx, &portfoliov1.UpdatePortfolioRequest{PortfolioId: p.GetId(), Name: "Cold",
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}}, Etag: now.GetPortfolio().GetEtag()})
	if err != nil || renamed.GetPortfolio().GetName() != "Cold" {
		t.Error(renamed, err)
	}
	r.WantFresh(t, "the other replica", "Cold", func() string {
		got, err := r.B.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{PortfolioId: p.GetId()})
		if err != nil {
			t.Error(err)
		}
		return got.GetPortfolio().GetName()
	})
	if _, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{PortfolioId: p.GetId()}); err != nil {
		t.Fatal(err)
	}
	request := uuid.NewString()
	for range 2 { // the answer to the first
		gone, err := s.DeletePortfolio(ctx, &portfoliov1.DeletePortfolioRequest{PortfolioId: p.GetId(),
			RequestId: request})
		if err != nil || gone.GetSnapshotCount() != 1 {
			t.Error(gone, err)
		}
	}
	r.WantFresh(t, "the other replica", "NOT_FOUND", func() string {
		_, err := r.B.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{PortfolioId: p.GetId()})
		if e := errs.As(err); e != nil {
			return e.Reason
		}
		return fmt.Sprint(err)
	})
	// An answer can be repeated although its wallet is gone; and there is room again.
	s.wallet.setOwned()
	if again, err := s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: " Vault ",
		WalletIds: []string{a}, RequestId: requests[0]}); err != nil && errs.As(err).Reason != "NOT_FOUND" {
		t.Error(again, err)
	}
	if _, err := s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: "Empty"}); err != nil {
		t.Error(err)
	}
}

func TestAChangeOfAPortfolioThatBreaksARuleNamesItsField(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	id, at := uuid.NewString(), timestamppb.New
	many := make([]string, 1001)
	for i := range many {
		many[i] = uuid.NewString()
	}
	for field, request := range map[string]*portfoliov1.CreatePortfolioRequest{
		"name":           {Name: " \t"},
		"effective_time": {Name: "x", EffectiveTime: at(time.Now().Add(time.Hour))},
		"request_id":     {Name: "x", RequestId: uuid.Nil.String()},
		"wallet_ids":     {Name: "x", WalletIds: many},
	} {
		_, err := s.CreatePortfolio(ctx, request)
		servicetest.WantViolation(t, err, field)
	}
	_, err := s.CreatePortfolio(ctx, &portfoliov1.CreatePortfolioRequest{Name: strings.Repeat("x", 81)})
	servicetest.WantViolation(t, err, "name")
	_, err = s.SetPortfolioWallets(ctx, &portfoliov1.SetPortfolioWalletsRequest{PortfolioId: id,
		EffectiveTime: at(time.Date(2014, 12, 31, 23, 0, 0, 0, time.UTC))})
	servicetest.WantViolation(t, err, "effective_time")
	_, err = s.ChangePortfolioWallets(ctx, &portfoliov1.ChangePortfolioWalletsRequest{PortfolioId: id,
		EffectiveTime: &timestamppb.Timestamp{Nanos: -1}})
	servicetest.WantViolation(t, err, "effective_time")
	_, err = s.UpdatePortfolio(ctx, &portfoliov1.UpdatePortfolioRequest{PortfolioId: id, Name: "x",
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"wallet_ids"}}})
	servicetest.WantViolation(t, err, "update_mask")
	_, err = s.RecomputeSnapshots(ctx, &portfoliov1.RecomputeSnapshotsRequest{PortfolioId: id,
		EndTime: at(time.Now())})
	servicetest.WantViolation(t, err, "start_time")
}
