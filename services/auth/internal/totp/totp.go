// Package totp gives accounts a second factor: the codes of an authenticator
// app (RFC 6238: SHA-1, six digits, thirty seconds), and ten recovery codes for
// when the app is lost.
//
// It promises: a code counts once, on whichever replica, and within one step of
// the database's clock; a recovery code counts once; a secret is readable with
// the key-encryption key and for its own account only, and recovery codes are
// kept as hashes; five wrong codes in a row block further ones for a minute,
// and each more for twice as long, up to an hour, so that guessing finds a code
// once in some forty years. Recovery codes are not blocked: 80 random bits
// can't be guessed, and their owner gets in while somebody else guesses.
//
// Limits: codes can be phished; who reads both the database and the
// key-encryption key can make them.
package totp

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

const (
	// step is how long one code lasts, in seconds.
	step = 30
	// pendingFor is how long an enrollment waits to be confirmed.
	pendingFor = 15 * time.Minute
)

// Factor is an account's second factor as stored; the zero Factor is none.
type Factor struct {
	User            uuid.UUID
	Sealed, Wrapped []byte // the secret
	CreatedAt       time.Time
	ConfirmedAt     time.Time // zero while it is pending
	LastStep        int64     // of the last code that was taken
	Failures        int       // in a row
	BlockedUntil    time.Time
	Recovery        []Hash // of the codes that are left
}

// Store is where factors are kept.
type Store interface {
	// Label is what an account is known by: its address, or its id.
	// errs.NotFound.
	Label(ctx context.Context, user uuid.UUID) (string, error)
	// Confirmed reports whether a user has a factor that is asked for.
	Confirmed(ctx context.Context, user uuid.UUID) (bool, error)
	// Change locks the user's factor and stores what change makes of it, and
	// the event unless it has no type, in one transaction; when change fails,
	// nothing. now is the database's clock. The zero Factor is none, both
	// ways. errs.NotFound for an id that nobody has. change may run more than
	// once.
	Change(ctx context.Context, user uuid.UUID,
		change func(f Factor, now time.Time) (Factor, audit.Event, error)) error
}

// Sealer keeps secrets unreadable at rest; *signing.Sealer is one.
type Sealer interface {
	Seal(secret, binding []byte) (sealed, wrapped []byte, err error)
	Open(sealed, wrapped, binding []byte) ([]byte, error)
}

// Binding is what the secret of a user is sealed for.
func Binding(user uuid.UUID) []byte { return []byte("totp|" + user.String()) }

// Service is the rules of second factors.
type Service struct {
	store  Store
	sealer Sealer
	name   string
}

// NewService returns the rules; name is what an app shows beside the account.
func NewService(s Store, sealer Sealer, name string) *Service {
	return &Service{store: s, sealer: sealer, name: name}
}

// Enrollment is what an app needs to make codes.
type Enrollment struct {
	Secret string // base32, without padding
	URI    string // otpauth://, as in a QR code
}

// Enroll makes a secret for an account, which counts once it is confirmed. One
// that waits to be is replaced. errs.FailedPrecondition (TOTP_ALREADY_ENROLLED)
// when a confirmed one is there.
func (s *Service) Enroll(ctx context.Context, user uuid.UUID) (Enrollment, error) {
	label, err := s.store.Label(ctx, user)
	if err != nil {
		return Enrollment{}, err
	}
	secret := make([]byte, 20)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the program instead
	key, err := totp.Generate(totp.GenerateOpts{Issuer: s.name, AccountName: label, Secret: secret})
	if err != nil {
		return Enrollment{}, fmt.Errorf("make TOTP key: %w", err)
	}
	sealed, wrapped, err := s.sealer.Seal(secret, Binding(user))
	if err != nil {
		return Enrollment{}, err
	}
	err = s.store.Change(ctx, user, func(f Factor, now time.Time) (Factor, audit.Event, error) {
		if !f.ConfirmedAt.IsZero() {
			return f, audit.Event{}, errs.FailedPrecondition("TOTP_ALREADY_ENROLLED",
				"a second factor is there; disable it first")
		}
		// The count of failures stays, or enrolling anew would be a way round.
		fresh := Factor{User: user, Sealed: sealed, Wrapped: wrapped, CreatedAt: now, Failures: f.Failures,
			BlockedUntil: f.BlockedUntil}
		return fresh, audit.Event{Type: audit.SecondFactorEnrolled, Actor: user, Subject: user}, nil
	})
	return Enrollment{Secret: key.Secret(), URI: key.URL()}, err
}

// Confirm makes the pending factor count, once a code shows that the app has
// it, and returns the recovery codes; they can't be read again.
// errs.FailedPrecondition (TOTP_NOT_PENDING), or as Check.
func (s *Service) Confirm(ctx context.Context, user uuid.UUID, code string) ([]string, error) {
	codes, hashes := recoveryCodes(user)
	err := s.with(ctx, user, code, audit.SecondFactorConfirmed, func(f *Factor, now time.Time) error {
		if f.User == uuid.Nil || !f.ConfirmedAt.IsZero() || now.Sub(f.CreatedAt) > pendingFor {
			return errs.FailedPrecondition("TOTP_NOT_PENDING",
				"no enrollment waits to be confirmed; call EnrollTotp first")
		}
		return nil
	}, func(f *Factor, now time.Time) { f.ConfirmedAt, f.Recovery = now, hashes })
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// Disable takes the second factor away for a code of it or a recovery code.
// errs.FailedPrecondition (TOTP_NOT_ENROLLED), or as Check.
func (s *Service) Disable(ctx context.Context, user uuid.UUID, code string) error {
	return s.with(ctx, user, code, audit.SecondFactorDisabled, enrolled, func(f *Factor, _ time.Time) { *f = Factor{} })
}

// RenewRecoveryCodes replaces the recovery codes, for a code of the factor or
// one of them, and returns the new ones; they can't be read again. Errors as
// Disable.
func (s *Service) RenewRecoveryCodes(ctx context.Context, user uuid.UUID, code string) ([]string, error) {
	codes, hashes := recoveryCodes(user)
	err := s.with(ctx, user, code, audit.RecoveryCodesRenewed, enrolled,
		func(f *Factor, _ time.Time) { f.Recovery = hashes })
	if err != nil {
		return nil, err
	}
	return codes, nil
}

func enrolled(f *Factor, _ time.Time) error {
	if f.ConfirmedAt.IsZero() {
		return errs.FailedPrecondition("TOTP_NOT_ENROLLED", "the account has no second factor")
	}
	return nil
}

// with does something to a factor that allows it, for a right code, and records
// that it was done or refused.
func (s *Service) with(ctx context.Context, user uuid.UUID, code string, what audit.Type,
	allow func(*Factor, time.Time) error, do func(*Factor, time.Time)) error {
	var refusal error
	err := s.store.Change(ctx, user, func(f Factor, now time.Time) (Factor, audit.Event, error) {
		e := audit.Event{Type: what, Actor: user, Subject: user}
		if err := allow(&f, now); err != nil {
			return f, e, err
		}
		_, why, err := s.prove(&f, code, now)
		refusal = nil
		switch {
		case err != nil:
		case why != nil:
			refusal, e.Outcome, e.Reason = why, audit.Refused, why.Reason
		default:
			do(&f, now)
		}
		return f, e, err
	})
	if err != nil {
		return err
	}
	return refusal
}

// Check implements session.SecondFactor. It proves "otp" and "mfa" (RFC 8176).
// errs.Exhausted (TOO_MANY_ATTEMPTS) while codes are blocked.
func (s *Service) Check(ctx context.Context, user uuid.UUID, code string) (methods []string, err error) {
	confirmed, err := s.store.Confirmed(ctx, user)
	if err != nil || !confirmed {
		return nil, err
	}
	if code == "" {
		return nil, errs.Unauthenticated("TOTP_REQUIRED", "a code of the second factor is needed")
	}
	var refusal error
	err = s.store.Change(ctx, user, func(f Factor, now time.Time) (Factor, audit.Event, error) {
		refusal, methods = nil, nil
		var e audit.Event
		if f.ConfirmedAt.IsZero() { // it was taken away meanwhile
			return f, e, nil
		}
		recovered, why, err := s.prove(&f, code, now)
		switch {
		case err != nil:
			return f, e, err
		case why != nil:
			refusal = why
			if now.Before(f.BlockedUntil) && why.Reason == "TOTP_INVALID" {
				e = audit.Event{Type: audit.SecondFactorBlocked, Outcome: audit.Refused, Reason: "TOO_MANY_ATTEMPTS",
					Subject: user}
			}
			return f, e, nil
		case recovered:
			e = audit.Event{Type: audit.RecoveryCodeUsed, Actor: user, Subject: user}
		}
		methods = []string{"otp", "mfa"}
		return f, e, nil
	})
	if err == nil {
		err = refusal
	}
	if err != nil {
		return nil, err
	}
	return methods, nil
}

// prove uses a code up. Why it isn't taken is an outcome that is stored, as is
// a failure that counts.
func (s *Service) prove(f *Factor, code string, now time.Time) (recovered bool, why *errs.Error, err error) {
	wrong := errs.Unauthenticated("TOTP_INVALID", "the code is wrong, or was used before")
	code = strings.NewReplacer(" ", "", "-", "").Replace(code)
	if len(code) != otp.DigitsSix.Length() {
		i := slices.Index(f.Recovery, hashOf(f.User, code))
		if i < 0 {
			return false, wrong, nil
		}
		f.Recovery = slices.Delete(slices.Clone(f.Recovery), i, i+1)
		f.Failures, f.BlockedUntil = 0, time.Time{}
		return true, nil, nil
	}
	if now.Before(f.BlockedUntil) {
		return false, errs.Exhausted("TOO_MANY_ATTEMPTS", "too many wrong codes").After(f.BlockedUntil.Sub(now)), nil
	}
	secret, err := s.sealer.Open(f.Sealed, f.Wrapped, Binding(f.User))
	if err != nil {
		return false, nil, fmt.Errorf("open the TOTP secret of %s: %w", f.User, err)
	}
	at, err := matching(secret, code, now)
	if err != nil {
		return false, nil, err
	}
	if at <= f.LastStep { // also 0: no step has this code
		f.Failures++
		f.BlockedUntil = now.Add(blockAfter(f.Failures))
		return false, wrong, nil
	}
	f.LastStep, f.Failures, f.BlockedUntil = at, 0, time.Time{}
	return false, nil, nil
}

// matching is the newest of the steps around now that has this code, 0 when
// none has.
func matching(secret []byte, code string, now time.Time) (int64, error) {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	var found int64
	for at := now.Unix()/step - 1; at <= now.Unix()/step+1; at++ {
		want, err := hotp.GenerateCode(text, uint64(at))
		if err != nil {
			return 0, fmt.Errorf("make TOTP code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			found = at
		}
	}
	return found, nil
}

// blockAfter is how long codes are blocked after failures in a row.
func blockAfter(failures int) time.Duration {
	if failures < 5 {
		return 0
	}
	return min(time.Hour, time.Minute<<min(failures-5, 6))
}
