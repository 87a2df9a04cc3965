// Package totp gives accounts a second factor: the codes of an authenticator app (RFC 6238: SHA-1, six digits, thirty
// seconds), and ten recovery codes for when the app is lost.
//
// It promises: a code is accepted once, on whichever replica, and within one step of the database's clock; a recovery
// code is accepted once; a secret can be decrypted only with the key-encryption key and for its own account, and
// recovery codes are stored as hashes. Five wrong codes in a row block further ones for a minute, and each further one
// for twice as long, up to an hour, so that guessing takes some forty years on average. Recovery codes are not
// blocked: their 80 random bits can't be guessed, and the owner gets in while somebody else guesses.
//
// Limits: codes can be phished; whoever reads both the database and the key-encryption key can compute them.
package totp

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

const (
	// step is how long one code is valid, in seconds.
	step = 30
	// pendingTTL is how long an enrollment can be confirmed.
	pendingTTL = 15 * time.Minute
)

// Factor is an account's second factor as stored; the zero Factor stands for none.
type Factor struct {
	User            uuid.UUID
	Sealed, Wrapped []byte // the encrypted secret and its encrypted data key
	CreatedAt       time.Time
	ConfirmedAt     time.Time // zero while it is pending
	LastStep        int64     // of the last code that was accepted
	Failures        int       // in a row
	BlockedUntil    time.Time
	Recovery        []Hash // of the unused recovery codes
}

// Change decides what to make of a user's locked second factor, and the event to record, none when it has no type.
// now is the database's clock, read under the lock. The zero Factor stands for none, as argument and as result. It may
// run more than once, and only the last result is stored; when it fails, nothing is.
type Change func(f Factor, now time.Time) (Factor, audit.Event, error)

// Store is where second factors are stored.
type Store interface {
	// Label returns what an account is known by: its address, or its id when it has none. errs.NotFound.
	Label(ctx context.Context, user uuid.UUID) (string, error)
	// Confirmed reports whether a user has a confirmed second factor.
	Confirmed(ctx context.Context, user uuid.UUID) (bool, error)
	// RecoveryCodes returns the hashes of a user's unused recovery codes; none without a confirmed second factor.
	RecoveryCodes(ctx context.Context, user uuid.UUID) ([]Hash, error)
	// Change locks a user and their second factor and stores what change makes of it, in one transaction. It refuses
	// what package authority refuses. errs.NotFound for an id that nobody has.
	Change(ctx context.Context, user uuid.UUID, change Change) error
}

// Sealer encrypts secrets at rest; *seal.Sealer is one.
type Sealer interface {
	Seal(secret, aad []byte) (sealed, wrapped []byte, err error)
	Open(sealed, wrapped, aad []byte) ([]byte, error)
}

// AAD returns the additional authenticated data with which the secret of a user is sealed.
func AAD(user uuid.UUID) []byte { return []byte("totp|" + user.String()) }

// Service applies the rules of second factors.
type Service struct {
	store  Store
	sealer Sealer
	name   string
}

// NewService returns a Service; name is what an authenticator app shows beside the account.
func NewService(s Store, sealer Sealer, name string) *Service {
	return &Service{store: s, sealer: sealer, name: name}
}

// Enrollment is what an authenticator app needs to make codes.
type Enrollment struct {
	Secret string // base32, without padding
	URI    string // otpauth://, as in a QR code
}

// Enroll makes a secret for an account, which is required at sign-in once it is confirmed. It replaces an unconfirmed
// one. errs.FailedPrecondition (TOTP_ALREADY_ENROLLED) when a confirmed one exists.
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
	sealed, wrapped, err := s.sealer.Seal(secret, AAD(user))
	if err != nil {
		return Enrollment{}, err
	}
	err = s.store.Change(ctx, user, func(f Factor, now time.Time) (Factor, audit.Event, error) {
		if !f.ConfirmedAt.IsZero() {
			return f, audit.Event{}, errs.FailedPrecondition("TOTP_ALREADY_ENROLLED",
				"the account has a second factor; disable it first")
		}
		// The failures are carried over, or a new enrollment would reset the block.
		fresh := Factor{User: user, Sealed: sealed, Wrapped: wrapped, CreatedAt: now, Failures: f.Failures,
			BlockedUntil: f.BlockedUntil}
		return fresh, audit.Event{Type: audit.SecondFactorEnrolled, Actor: user, Subject: user}, nil
	})
	return Enrollment{Secret: key.Secret(), URI: key.URL()}, err
}

// Confirm activates the pending factor for a code that shows that the app has it, and returns the recovery codes; they
// can't be read again. errs.FailedPrecondition (TOTP_NOT_PENDING), or as Check.
func (s *Service) Confirm(ctx context.Context, user uuid.UUID, code string) ([]string, error) {
	codes, hashes := recoveryCodes(user)
	err := s.changeWithCode(ctx, user, code, audit.SecondFactorConfirmed, func(f *Factor, now time.Time) error {
		if f.User == uuid.Nil || !f.ConfirmedAt.IsZero() || now.Sub(f.CreatedAt) > pendingTTL {
			return errs.FailedPrecondition("TOTP_NOT_PENDING",
				"no enrollment is waiting to be confirmed; call EnrollTotp first")
		}
		return nil
	}, func(f *Factor, now time.Time) { f.ConfirmedAt, f.Recovery = now, hashes })
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// Disable removes the second factor, for a code of it or a recovery code.
// errs.FailedPrecondition (TOTP_NOT_ENROLLED), or as Check.
func (s *Service) Disable(ctx context.Context, user uuid.UUID, code string) error {
	return s.changeWithCode(ctx, user, code, audit.SecondFactorDisabled, checkEnrolled,
		func(f *Factor, _ time.Time) { *f = Factor{} })
}

// RenewRecoveryCodes replaces the recovery codes, for a code of the factor or an old recovery code, and returns the
// new ones; they can't be read again. Errors as Disable.
func (s *Service) RenewRecoveryCodes(ctx context.Context, user uuid.UUID, code string) ([]string, error) {
	codes, hashes := recoveryCodes(user)
	err := s.changeWithCode(ctx, user, code, audit.RecoveryCodesRenewed, checkEnrolled,
		func(f *Factor, _ time.Time) { f.Recovery = hashes })
	if err != nil {
		return nil, err
	}
	return codes, nil
}

// checkEnrolled refuses an account without a confirmed second factor.
func checkEnrolled(f *Factor, _ time.Time) error {
	if f.ConfirmedAt.IsZero() {
		return errs.FailedPrecondition("TOTP_NOT_ENROLLED", "the account has no second factor; EnrollTotp begins one")
	}
	return nil
}

// changeWithCode applies change to a factor that check allows, for a right code. It records whether the code was
// right.
func (s *Service) changeWithCode(ctx context.Context, user uuid.UUID, code string, t audit.Type,
	check func(*Factor, time.Time) error, change func(*Factor, time.Time)) error {
	var refusal error
	err := s.store.Change(ctx, user, func(f Factor, now time.Time) (Factor, audit.Event, error) {
		e := audit.Event{Type: t, Actor: user, Subject: user}
		if err := check(&f, now); err != nil {
			return f, e, err
		}
		_, wrong, err := s.useCode(&f, code, now)
		refusal = nil
		switch {
		case err != nil:
		case wrong != nil:
			refusal, e.Outcome, e.Reason = wrong, audit.Refused, wrong.Reason
		default:
			change(&f, now)
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
		return nil, errs.Unauthenticated("TOTP_REQUIRED", "the account has a second factor: send its code in "+
			"second_factor_code, of the authenticator app or a recovery code")
	}
	var refusal error
	err = s.store.Change(ctx, user, func(f Factor, now time.Time) (Factor, audit.Event, error) {
		refusal, methods = nil, nil
		var e audit.Event
		if f.ConfirmedAt.IsZero() { // it was disabled meanwhile
			return f, e, nil
		}
		recovery, wrong, err := s.useCode(&f, code, now)
		switch {
		case err != nil:
			return f, e, err
		case wrong != nil:
			refusal = wrong
			if now.Before(f.BlockedUntil) && wrong.Reason == "TOTP_INVALID" {
				e = audit.Event{Type: audit.SecondFactorBlocked, Outcome: audit.Refused, Reason: "TOO_MANY_ATTEMPTS",
					Subject: user}
			}
			return f, e, nil
		case recovery:
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

// useCode uses a code up and reports whether it was a recovery code. A refusal is not a failure of the transaction: it
// is counted in the factor, which is stored.
func (s *Service) useCode(f *Factor, code string, now time.Time) (recovery bool, refusal *errs.Error, err error) {
	wrong := errs.Unauthenticated("TOTP_INVALID", "the code of the second factor is wrong, too old or used "+
		"before; wait for the next one, and check the "+
		"clock of the device")
	code = plain(code)
	if IsRecoveryCode(code) {
		i := slices.Index(f.Recovery, hashOf(f.User, code))
		if i < 0 {
			return false, wrong, nil
		}
		f.Recovery = slices.Delete(slices.Clone(f.Recovery), i, i+1)
		f.Failures, f.BlockedUntil = 0, time.Time{}
		return true, nil, nil
	}
	if now.Before(f.BlockedUntil) {
		return false, errs.Exhausted("TOO_MANY_ATTEMPTS", "too many wrong codes of the second factor in a row; "+
			"wait for the time in RetryInfo").After(f.BlockedUntil.Sub(now)), nil
	}
	secret, err := s.sealer.Open(f.Sealed, f.Wrapped, AAD(f.User))
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

// matching returns the newest of the steps around now whose code this is, 0 when it is of none.
func matching(secret []byte, code string, now time.Time) (int64, error) {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	var found int64
	for at := now.Unix()/step - 1; at <= now.Unix()/step+1; at++ {
		expected, err := hotp.GenerateCode(text, uint64(at))
		if err != nil {
			return 0, fmt.Errorf("make TOTP code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(expected), []byte(code)) == 1 {
			found = at
		}
	}
	return found, nil
}

// blockAfter returns for how long codes are blocked after so many failures in a row.
func blockAfter(failures int) time.Duration {
	if failures < 5 {
		return 0
	}
	return min(time.Hour, time.Minute<<min(failures-5, 6))
}
