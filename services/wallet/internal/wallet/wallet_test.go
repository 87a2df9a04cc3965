package wallet_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// memory keeps one wallet; another owner's calls find nothing.
type memory struct {
	wallet.Store
	kept     wallet.Wallet
	request  *requests.Request
	saves    int
	versions []int64 // of deletes
}

func (m *memory) Create(_ context.Context, w wallet.Wallet, _ int, r *requests.Request) (wallet.Wallet, error) {
	m.kept, m.request = w, r
	return w, nil
}

func (m *memory) ByID(_ context.Context, owner, id uuid.UUID) (wallet.Wallet, error) {
	if owner != m.kept.Owner || id != m.kept.ID {
		return wallet.Wallet{}, errs.NotFound("wallet")
	}
	return m.kept, nil
}

func (m *memory) Update(ctx context.Context, owner, id uuid.UUID, _ *requests.Request,
	change func(*wallet.Wallet) error) (wallet.Wallet, error) {
	w, err := m.ByID(ctx, owner, id)
	if err != nil {
		return wallet.Wallet{}, err
	}
	if err := change(&w); err != nil {
		return wallet.Wallet{}, err
	}
	m.saves++
	w.Version++
	m.kept = w
	return w, nil
}

func (m *memory) Delete(_ context.Context, _, _ uuid.UUID, version int64,
	_ *requests.Request) (wallet.Removed, error) {
	m.versions = append(m.versions, version)
	return wallet.Removed{}, nil
}

const account = "eip155:1:0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

type fixture struct {
	*wallet.Service
	*memory
	owner uuid.UUID
	now   time.Time
}

func newFixture() *fixture {
	f := &fixture{memory: &memory{}, owner: uuid.New(),
		now: time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))}
	f.Service = wallet.NewService(f.memory, []uint64{1, 10}, 100, func() time.Time { return f.now })
	return f
}

func (f *fixture) create(t *testing.T, account, label string, request uuid.UUID) wallet.Wallet {
	t.Helper()
	w, err := f.Service.Create(t.Context(), f.owner,
		wallet.Creation{Account: account, Label: label, RequestID: request})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// violates fails the test unless err names this field.
func violates(t *testing.T, err error, field string) {
	t.Helper()
	e := errs.As(err)
	if e == nil || e.Kind != errs.KindInvalid || len(e.Violations) != 1 || e.Violations[0].Field != field {
		t.Errorf("answered %v, want a violation of %s", err, field)
	}
}

func TestANewWalletIsPending(t *testing.T) {
	f := newFixture()
	w := f.create(t, account, "  cold  ", uuid.Nil)
	if w.ID.Version() != 7 || w.Owner != f.owner || w.Label != "cold" || w.Version != 1 ||
		w.Sync.State != wallet.Pending || w.Account.Display() != account {
		t.Errorf("made %+v", w)
	}
	if !w.CreatedAt.Equal(f.now.Truncate(time.Microsecond)) || w.CreatedAt.Location() != time.UTC {
		t.Errorf("at %s", w.CreatedAt)
	}
	if f.request != nil {
		t.Error("a call without a request_id has one")
	}
	for _, bad := range []string{"", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
		strings.Replace(account, "aA", "aa", 1)} {
		_, err := f.Service.Create(t.Context(), f.owner, wallet.Creation{Account: bad})
		violates(t, err, "account")
	}
}

func TestLabels(t *testing.T) {
	for _, tc := range []struct {
		name, label, want string
		creates, renames  bool
	}{
		{"a plain label", "cold", "cold", true, true},
		{"spaces around it go", " \t cold \n ", "cold", true, true},
		{"none is fine until it is renamed", "", "", true, false},
		{"a blank one is none", " \t\n", "", true, false},
		{"80 characters, not bytes", strings.Repeat("ü", 80), strings.Repeat("ü", 80), true, true},
		{"81 are too many", strings.Repeat("ü", 81), "", false, false},
		{"a line break is refused", "a\nb", "", false, false},
		{"a NUL byte is refused", "a\x00b", "", false, false},
		{"a delete character is refused", "a\x7fb", "", false, false},
		{"other scripts are fine", "Кошелёк 🦊", "Кошелёк 🦊", true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture()
			w, err := f.Service.Create(t.Context(), f.owner, wallet.Creation{Account: account, Label: tc.label})
			if !tc.creates {
				violates(t, err, "label")
			} else if err != nil || w.Label != tc.want {
				t.Errorf("made %q, %v", w.Label, err)
			}
			f = newFixture()
			w = f.create(t, account, "old", uuid.Nil)
			w, err = f.Rename(t.Context(), f.owner, w.ID, tc.label, "", uuid.Nil)
			if !tc.renames {
				violates(t, err, "label")
			} else if err != nil || w.Label != tc.want {
				t.Errorf("renamed to %q, %v", w.Label, err)
			}
		})
	}
}

func TestARenameTakesTheETagThatWasSeen(t *testing.T) {
	f := newFixture()
	w := f.create(t, account, "old", uuid.Nil)
	f.now = f.now.Add(time.Hour)
	renamed, err := f.Rename(t.Context(), f.owner, w.ID, "new", w.ETag(), uuid.Nil)
	if err != nil || renamed.ETag() == w.ETag() || renamed.ETag() != f.kept.ETag() ||
		!renamed.UpdatedAt.Equal(f.now.Truncate(time.Microsecond)) {
		t.Errorf("renamed to %+v, %v", renamed, err)
	}
	for _, stale := range []string{w.ETag(), "nonsense", " " + renamed.ETag()} {
		_, err := f.Rename(t.Context(), f.owner, w.ID, "newer", stale, uuid.Nil)
		if errs.KindOf(err) != errs.KindConflict {
			t.Errorf("etag %q: %v", stale, err)
		}
	}
	_, err = f.Rename(t.Context(), uuid.New(), w.ID, "theirs", "nonsense", uuid.Nil)
	if errs.KindOf(err) != errs.KindNotFound {
		t.Errorf("somebody else's: %v", err)
	}
	if f.saves != 1 {
		t.Errorf("saved %d times", f.saves)
	}
}

// An etag that no wallet ever had becomes a version that no wallet has; the
// store then says whether the wallet is there at all.
func TestADeleteTakesTheETagThatWasSeen(t *testing.T) {
	f := newFixture()
	for etag, want := range map[string]int64{
		"": 0, "1": 1, "z": 35, "10": 36, "nonsense!": -1, "01": -1, "+1": -1, "Z": -1, "-1": -1, "0": -1,
		"zzzzzzzzzzzzzzzz": -1,
	} {
		f.versions = nil
		if _, err := f.Service.Delete(t.Context(), f.owner, uuid.New(), etag, uuid.Nil); err != nil {
			t.Errorf("etag %q: %v", etag, err)
		}
		if len(f.versions) != 1 || f.versions[0] != want {
			t.Errorf("etag %q asks for version %v, want %d", etag, f.versions, want)
		}
	}
}

func TestEqualRequestsHaveEqualHashesAndOthersDont(t *testing.T) {
	id := uuid.New()
	hash := func(account, label string) [32]byte {
		f := newFixture()
		f.create(t, account, label, id)
		if f.request == nil || f.request.ID != id || f.request.Method != "CreateWallet" {
			t.Fatalf("request %+v", f.request)
		}
		return f.request.Hash
	}
	one := hash(account, "cold")
	if hash(strings.ToLower(account), " cold ") != one {
		t.Error("another spelling of the same request is another")
	}
	if hash(account, "warm") == one || hash(strings.Replace(account, ":1:", ":10:", 1), "cold") == one {
		t.Error("another request is the same")
	}
}

func TestASyncThatOutlivesItsLeaseHasFailed(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	before, after := now.Add(-time.Nanosecond), now.Add(time.Nanosecond)
	for _, tc := range []struct {
		name  string
		state wallet.SyncState
		retry *time.Time
		want  wallet.SyncState
		shown bool // the time to retry
	}{
		{"one under way", wallet.Syncing, &after, wallet.Syncing, false},
		{"one at the end of its lease", wallet.Syncing, &now, wallet.Failed, true},
		{"one past it", wallet.Syncing, &before, wallet.Failed, true},
		{"one without a lease", wallet.Syncing, nil, wallet.Syncing, false},
		{"one that has failed", wallet.Failed, &before, wallet.Failed, true},
		{"one that was done", wallet.Synced, nil, wallet.Synced, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := wallet.Sync{State: tc.state, Block: 5, At: &before, RetryAt: tc.retry}
			got := s.AsOf(now)
			if got.State != tc.want || (got.RetryAt != nil) != tc.shown || got.Block != 5 || got.At != &before {
				t.Errorf("%+v", got)
			}
			if died := tc.want == wallet.Failed && tc.state == wallet.Syncing; (got.Error != "") != died {
				t.Errorf("error %q", got.Error)
			}
		})
	}
}
