package erasure

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// deleted is a user who was deleted, and the cursor after them.
type deleted struct {
	owner  uuid.UUID
	cursor int64
}

// list returns deletions after a cursor, and the cursor after them. Its error is that of the call, or states what is
// wrong with the answer: nothing of that is then carried out.
func (f *Follower) list(ctx context.Context, after int64) (list []deleted, next int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if ctx, err = f.AsSelf(ctx); err != nil {
		return nil, 0, err
	}
	resp, err := f.Auth.ListDeletions(ctx, &authv1.ListDeletionsRequest{AfterCursor: after, PageSize: listSize})
	if err != nil {
		return nil, 0, fmt.Errorf("list deletions: %w", err)
	}
	if list, err = f.checked(resp.GetDeletions(), resp.GetIssuer()); err != nil {
		return nil, 0, err
	}
	last := after
	for _, d := range list {
		if d.cursor <= last {
			return nil, 0, fmt.Errorf("list deletions: auth answered the cursor %d after %d", d.cursor, last)
		}
		last = d.cursor
	}
	if resp.GetNextCursor() != last {
		return nil, 0, fmt.Errorf("list deletions: auth answered the next cursor %d after %d", resp.GetNextCursor(),
			last)
	}
	return list, last, nil
}

// find returns which of these users were deleted.
func (f *Follower) find(ctx context.Context, owners []uuid.UUID) (list []deleted, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if ctx, err = f.AsSelf(ctx); err != nil {
		return nil, err
	}
	req := &authv1.FindDeletedUsersRequest{}
	for _, o := range owners {
		req.UserIds = append(req.UserIds, o.String())
	}
	resp, err := f.Auth.FindDeletedUsers(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("find deleted users: %w", err)
	}
	if list, err = f.checked(resp.GetDeletions(), resp.GetIssuer()); err != nil {
		return nil, err
	}
	for _, d := range list {
		if !slices.Contains(owners, d.owner) {
			return nil, fmt.Errorf("find deleted users: auth answered %s, whom it was not asked about", d.owner)
		}
	}
	return list, nil
}

// checked returns the users of an answer for this service's issuer. Another issuer has other users, of whom nothing
// may be erased here.
func (f *Follower) checked(users []*authv1.DeletedUser, issuer string) ([]deleted, error) {
	if issuer != f.Issuer {
		return nil, fmt.Errorf("auth answered for another issuer than %q, %s: check PURSER_AUTH_ADDR and "+
			"PURSER_ISSUER", f.Issuer, errs.Given(issuer))
	}
	list := make([]deleted, len(users))
	for i, u := range users {
		id, err := uuid.Parse(u.GetUserId())
		if err != nil || id == uuid.Nil || u.GetCursor() <= 0 {
			return nil, fmt.Errorf("auth answered a deletion without a user or a cursor, %s",
				errs.Given(u.GetUserId()))
		}
		list[i] = deleted{owner: id, cursor: u.GetCursor()}
	}
	return list, nil
}

// report tells auth up to where everything is erased. It is told each time: the service account may be a new one.
func (f *Follower) report(ctx context.Context) error {
	cursor, err := f.erasedUntil(ctx)
	if err != nil || cursor == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if ctx, err = f.AsSelf(ctx); err != nil {
		return err
	}
	if _, err := f.Auth.ReportErasure(ctx, &authv1.ReportErasureRequest{Cursor: cursor}); err != nil {
		return fmt.Errorf("report erasure: %w", err)
	}
	return nil
}
