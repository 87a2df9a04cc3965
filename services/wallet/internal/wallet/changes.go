package wallet

import (
	"context"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/requests"
)

// noVersion is a version that no wallet has.
const noVersion = -1

// Rename gives the wallet a new label. It returns errs.NotFound when owner
// has no such wallet, and errs.Conflict (ETAG_MISMATCH) when etag is given
// and the wallet is no longer what the caller saw. A call with the request of an
// earlier one, which may be uuid.Nil for none, returns what that one returned.
func (s *Service) Rename(ctx context.Context, owner, id uuid.UUID, label, etag string, request uuid.UUID) (Wallet,
	error) {
	label, err := NewLabel(label)
	if err != nil {
		return Wallet{}, err
	}
	r := requests.New(request, "UpdateWallet", id.String(), label, etag)
	return s.update(ctx, owner, id, r, func(w *Wallet) error {
		if err := w.check(etag); err != nil {
			return err
		}
		w.Label = label
		return nil
	})
}

// Archive puts a wallet aside; errors as Rename. One that is archived stays as it is,
// whatever the etag.
func (s *Service) Archive(ctx context.Context, owner, id uuid.UUID, etag string) (Wallet, error) {
	return s.update(ctx, owner, id, nil, func(w *Wallet) error {
		if w.ArchivedAt != nil {
			return ErrUnchanged
		}
		if err := w.check(etag); err != nil {
			return err
		}
		now := s.timestamp()
		w.ArchivedAt = &now
		return nil
	})
}

// Restore ends Archive; errors as Rename. A wallet that is not archived stays as it is,
// whatever the etag.
func (s *Service) Restore(ctx context.Context, owner, id uuid.UUID, etag string) (Wallet, error) {
	return s.update(ctx, owner, id, nil, func(w *Wallet) error {
		if w.ArchivedAt == nil {
			return ErrUnchanged
		}
		if err := w.check(etag); err != nil {
			return err
		}
		w.ArchivedAt = nil
		return nil
	})
}

func (s *Service) update(ctx context.Context, owner, id uuid.UUID, r *requests.Request,
	change func(*Wallet) error) (Wallet, error) {
	w, err := s.store.Update(ctx, owner, id, r, func(w *Wallet) error {
		if err := change(w); err != nil {
			return err
		}
		w.UpdatedAt = s.timestamp()
		return nil
	})
	w.Sync = w.Sync.AsOf(s.now())
	return w, err
}

// timestamp is the present as the database keeps it.
func (s *Service) timestamp() time.Time { return s.now().UTC().Truncate(time.Microsecond) }

// Delete removes a wallet and all that is stored of it, and returns how much that was;
// errors and request as Rename.
func (s *Service) Delete(ctx context.Context, owner, id uuid.UUID, etag string, request uuid.UUID) (Removed, error) {
	var version int64
	if etag != "" {
		v, err := strconv.ParseInt(etag, 36, 64)
		if err != nil || v <= 0 || (Wallet{Version: v}).ETag() != etag {
			v = noVersion
		}
		version = v
	}
	removed, err := s.store.Delete(ctx, owner, id, version, requests.New(request, "DeleteWallet", id.String(), etag))
	if e := errs.As(err); e != nil && e.Reason == "ETAG_MISMATCH" {
		return removed, Mismatch(etag, e.Metadata["current_etag"])
	}
	return removed, err
}

// check returns an error when etag is given and not that of w.
func (w *Wallet) check(etag string) error {
	if etag != "" && etag != w.ETag() {
		return Mismatch(etag, w.ETag())
	}
	return nil
}

// Mismatch is the error of a write to a wallet that has changed since the caller
// read it: errs.Conflict (ETAG_MISMATCH) with the etag that it has now. given is
// empty when the wallet changed during the write.
func Mismatch(given, current string) error {
	return requests.EtagMismatch("the wallet", "GetWallet", given, current)
}
