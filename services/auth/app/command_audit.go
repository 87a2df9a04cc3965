package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// verifyAudit works the chain of audit events out anew; known are numbers of
// seals, each followed by its hash.
func verifyAudit(ctx context.Context, chain *audit.Chain, known []string, out io.Writer) error {
	hashes := map[int64]audit.Hash{}
	for i := 0; i < len(known); i += 2 {
		n, err := strconv.ParseInt(known[i], 10, 64)
		if err != nil || n < 1 || i+1 == len(known) {
			return fmt.Errorf("audit verify: %q is no number of a seal that is followed by its hash", known[i])
		}
		b, err := hex.DecodeString(known[i+1])
		if err != nil || len(b) != len(audit.Hash{}) {
			return fmt.Errorf("audit verify: %q is no hash: want 64 hexadecimal digits", known[i+1])
		}
		hashes[n] = audit.Hash(b)
	}
	r, err := chain.Verify(ctx, hashes)
	if err != nil {
		return err
	}
	if r.Last.Number > 0 {
		_, err = fmt.Fprintf(out, "whole: %d events in %d seals, the last of %s with hash %s\n", r.Events,
			r.Last.Number, at(r.Last.At), r.Last.Hash)
	} else {
		_, err = fmt.Fprintln(out, "nothing is sealed yet")
	}
	if err == nil && r.Unsealed > 0 {
		_, err = fmt.Fprintf(out, "%d events have no seal yet, the oldest of %s\n", r.Unsealed, at(r.OldestUnsealed))
	}
	return err
}
