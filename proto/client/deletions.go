package client

import (
	"context"
	"fmt"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// FollowDeletions has a service erase the data of the users who were deleted after cursor, 0 at first, and reports to
// auth what is done. The caller of d is a service account with the permission users:erase. erase is called with up to
// 500 users at a time; it deletes what they have and stores next as the cursor, best in one transaction. It may be
// called again for the same users, after a crash in between.
//
// It returns the cursor that is reached, also beside an error: that of erase, or of a call. Nothing is erased when
// auth answers for another issuer than issuer, which is that of the tokens that the service accepts. With
// errs.FailedPrecondition (CURSOR_AHEAD) auth was restored from a backup: begin again with 0.
func FollowDeletions(ctx context.Context, d authv1.DeletionServiceClient, issuer string, cursor int64,
	erase func(ctx context.Context, userIDs []string, next int64) error) (int64, error) {
	for {
		page, err := d.ListDeletions(ctx, &authv1.ListDeletionsRequest{AfterCursor: cursor})
		if err != nil {
			return cursor, fmt.Errorf("client: list deletions: %w", err)
		}
		if page.GetIssuer() != issuer {
			return cursor, fmt.Errorf("client: the deletions are of another issuer than %q, %s", issuer,
				errs.Given(page.GetIssuer()))
		}
		if len(page.GetDeletions()) > 0 {
			ids := make([]string, len(page.GetDeletions()))
			for i, u := range page.GetDeletions() {
				ids[i] = u.GetUserId()
			}
			if err := erase(ctx, ids, page.GetNextCursor()); err != nil {
				return cursor, err
			}
			cursor = page.GetNextCursor()
		}
		// Also when there is nothing new, in case the last report was lost.
		if _, err := d.ReportErasure(ctx, &authv1.ReportErasureRequest{Cursor: cursor}); err != nil {
			return cursor, fmt.Errorf("client: report erasure: %w", err)
		}
		if len(page.GetDeletions()) == 0 {
			return cursor, nil
		}
	}
}
