package webhook

import (
	"context"

	"github.com/google/uuid"
)

// DeliverDue makes one attempt for each message that is due, and then for those that became due by that.
func (d *Deliverer) DeliverDue(ctx context.Context) error {
	for {
		pieces, err := d.claim(ctx, slots)
		if err != nil || len(pieces) == 0 {
			return err
		}
		for _, piece := range pieces {
			piece(ctx)
		}
	}
}

// WhyFailed is what the owner of an endpoint is told of an error.
func WhyFailed(err error) string { return whyFailed(err) }

// AAD names the row of a secret.
func AAD(owner, id uuid.UUID) []byte { return aad(owner, id) }
