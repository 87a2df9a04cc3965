package holdings

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

const (
	// silenceTimeout is how long a stream of changes may say nothing: three heartbeats.
	silenceTimeout = 15 * time.Second
	// reopenAfter is the pause before a stream is opened again.
	reopenAfter = time.Second
)

// Follower follows the changes of all owners' holdings, for what is cached of them.
type Follower struct {
	client walletv1.HoldingsServiceClient
	asSelf func(ctx context.Context) (context.Context, error)
	// changed is called with the owners of whom something changed, each once.
	changed func(ctx context.Context, owners []uuid.UUID) error
	// wallets is called with each owner of whom a wallet came, changed or went; nil for nobody.
	wallets func(ctx context.Context, owner uuid.UUID) error
	// restarted is called when a stream without a cursor has begun; nil for nobody.
	restarted func()
	following atomic.Bool
	log       *slog.Logger
	cursor    string
}

// NewFollower returns a follower that calls with the service's own token, which asSelf
// puts into a context.
func NewFollower(c walletv1.HoldingsServiceClient, asSelf func(ctx context.Context) (context.Context, error),
	changed func(ctx context.Context, owners []uuid.UUID) error, log *slog.Logger) *Follower {
	return &Follower{client: c, asSelf: asSelf, changed: changed, log: log}
}

// WithWallets also calls fn with each owner of whom a wallet was added, changed or deleted. An
// error of fn is logged, and the change is not told again.
func (f *Follower) WithWallets(fn func(ctx context.Context, owner uuid.UUID) error) *Follower {
	f.wallets = fn
	return f
}

// OnRestart calls fn when the stream starts at the present because its cursor was lost: some changes may have been
// missed. Call it before Run.
func (f *Follower) OnRestart(fn func()) *Follower {
	f.restarted = fn
	return f
}

// Following reports whether a stream is open that has had a message.
func (f *Follower) Following() bool { return f.following.Load() }

// Run follows until ctx ends. It goes on after the last message whose owners changed
// took, and begins anew where wallet no longer has what followed it: use it only for
// data that a TTL also bounds, since changes may be lost.
func (f *Follower) Run(ctx context.Context) error {
	for failing := false; ; {
		heard, err := f.follow(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is that of the work
		}
		if e := errs.As(err); e != nil && (e.Reason == "CURSOR_EXPIRED" || e.Kind == errs.KindInvalid) {
			f.cursor = ""
		}
		switch {
		case heard && failing:
			f.log.InfoContext(ctx, "changes of holdings are followed again")
		case !heard && !failing:
			f.log.WarnContext(ctx, "changes of holdings are not followed: cached valuations live for their TTL",
				"error", err)
		}
		failing = !heard
		if err := deadline.Pause(ctx, reopenAfter); err != nil {
			return nil //nolint:nilerr // as above
		}
	}
}

// follow reads one stream to its end, and reports whether it had a message.
func (f *Follower) follow(ctx context.Context) (heard bool, err error) {
	defer f.following.Store(false)
	ctx, err = f.asSelf(ctx)
	if err != nil {
		return false, err
	}
	err = receiveChanges(ctx, f.client, f.cursor, func(ctx context.Context, m *walletv1.WatchChangesResponse) (bool,
		error) {
		heard = true
		if !f.following.Swap(true) && f.cursor == "" && f.restarted != nil {
			f.restarted()
		}
		if owners := ownersOf(m.GetChanges()); len(owners) > 0 {
			if err := f.changed(ctx, owners); err != nil {
				return false, err
			}
		}
		f.walletsChanged(ctx, m.GetChanges())
		f.cursor = m.GetCursor()
		return true, nil
	})
	return heard, err
}

// receiveChanges opens a stream of the changes of all owners after a cursor, and calls visit with each message until
// it wants no more, or fails. A stream that says nothing for silenceTimeout ends.
func receiveChanges(ctx context.Context, c walletv1.HoldingsServiceClient, cursor string,
	visit func(ctx context.Context, m *walletv1.WatchChangesResponse) (more bool, err error)) error {
	open := func(ctx context.Context) (grpc.ServerStreamingClient[walletv1.WatchChangesResponse], error) {
		return c.WatchChanges(ctx, &walletv1.WatchChangesRequest{Cursor: cursor, Shard: &walletv1.Shard{Count: 1}})
	}
	return receive(ctx, silenceTimeout, open, visit)
}

// walletsChanged calls wallets with the owners of changes of wallets.
func (f *Follower) walletsChanged(ctx context.Context, changes []*walletv1.Change) {
	if f.wallets == nil {
		return
	}
	ofWallets := slices.DeleteFunc(slices.Clone(changes), func(c *walletv1.Change) bool {
		switch c.GetKind() {
		case walletv1.ChangeKind_CHANGE_KIND_WALLET_CREATED, walletv1.ChangeKind_CHANGE_KIND_WALLET_UPDATED,
			walletv1.ChangeKind_CHANGE_KIND_WALLET_DELETED:
			return false
		}
		return true
	})
	for _, owner := range ownersOf(ofWallets) {
		if err := f.wallets(ctx, owner); err != nil && ctx.Err() == nil {
			f.log.WarnContext(ctx, "changed wallets of an owner are not followed: the next snapshot finds them",
				"owner", owner, "error", err)
		}
	}
}

// ownersOf returns the owners of changes, each once.
func ownersOf(changes []*walletv1.Change) (owners []uuid.UUID) {
	seen := map[uuid.UUID]bool{}
	for _, c := range changes {
		if id, err := uuid.Parse(c.GetOwnerId()); err == nil && !seen[id] {
			seen[id] = true
			owners = append(owners, id)
		}
	}
	return owners
}
