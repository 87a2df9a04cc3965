package totp_test

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/internal/totp"
	"github.com/purserhq/purser/services/internal/seal"
)

// wrong is a code that none of the steps around now has.
func (f fixture) wrong(t *testing.T, secret string) string {
	t.Helper()
	near := []string{f.code(t, secret, -30*time.Second), f.code(t, secret, 0), f.code(t, secret, 30*time.Second)}
	for _, code := range []string{"000000", "111111", "222222", "333333"} {
		if !strings.Contains(strings.Join(near, " "), code) {
			return code
		}
	}
	t.Fatal("three codes of four")
	return ""
}

func TestWrongCodesInARowBlockForLongerAndLonger(t *testing.T) {
	f := newFixture(t)
	secret, recovery := f.enrolled(t)
	for range 4 {
		f.check(t, f.wrong(t, secret), "TOTP_INVALID")
	}
	for _, minutes := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		blocked := time.Duration(minutes) * time.Minute
		f.check(t, f.wrong(t, secret), "TOTP_INVALID")
		_, err := f.Check(t.Context(), f.user, f.code(t, secret, 0))
		if e := errs.As(err); e == nil || e.Reason != "TOO_MANY_ATTEMPTS" || e.RetryAfter != blocked {
			t.Fatalf("a right code is answered %v, want to be blocked for %s", err, blocked)
		}
		f.clock.pass(blocked)
	}
	f.check(t, f.wrong(t, secret), "TOTP_INVALID")
	f.check(t, recovery[0], "") // is not blocked, and ends the block
	f.check(t, f.code(t, secret, 0), "")
	var events int
	if err := f.db.SQL().QueryRowContext(t.Context(),
		"SELECT count(*) FROM audit_events WHERE type = $1 AND subject = $2", audit.SecondFactorBlocked,
		f.user).Scan(&events); err != nil || events != 9 {
		t.Errorf("%d blocks are recorded, %v", events, err)
	}
}

func TestEnrollingAnewIsNoWayRoundTheBlock(t *testing.T) {
	f := newFixture(t)
	e, err := f.Enroll(t.Context(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		_, err = f.Confirm(t.Context(), f.user, f.wrong(t, e.Secret))
		wantReason(t, err, "TOTP_INVALID")
	}
	e, err = f.Enroll(t.Context(), f.user)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Confirm(t.Context(), f.user, f.code(t, e.Secret, 0))
	wantReason(t, err, "TOO_MANY_ATTEMPTS")
}

func TestNothingReadableIsStored(t *testing.T) {
	f := newFixture(t)
	secret, recovery := f.enrolled(t)
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range append(recovery, secret, hex.EncodeToString(raw)) {
		var n int
		err := f.db.SQL().QueryRowContext(t.Context(),
			"SELECT count(*) FROM second_factors s WHERE strpos(s::text, $1) > 0 OR strpos(s::text, $2) > 0",
			code, strings.ReplaceAll(code, "-", "")).Scan(&n)
		if err != nil || n != 0 {
			t.Errorf("%d, %v", n, err)
		}
	}
}

func TestASecretOpensForItsOwnAccountOnly(t *testing.T) {
	f := newFixture(t)
	secret, _ := f.enrolled(t)
	eve := uuid.New()
	f.register(t, eve, "eve@example.com")
	// Who can write to the table gives another account their own factor.
	err := f.db.Gorm(t.Context()).Exec("INSERT INTO second_factors SELECT ?, sealed_secret, wrapped_key, created_at, "+
		"confirmed_at, last_step, 0, NULL, recovery_hashes FROM second_factors", eve).Error
	if err != nil {
		t.Fatal(err)
	}
	if methods, err := f.Check(t.Context(), eve, f.code(t, secret, 0)); err == nil || methods != nil ||
		errs.As(err) != nil {
		t.Errorf("answered %v, %v", methods, err)
	}
	f.check(t, f.code(t, secret, 0), "")
	other, err := seal.New(bytes.Repeat([]byte("x"), seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := totp.NewService(timed{store.NewSecondFactors(f.db.DB), f.clock}, other, "Purser").Check(t.Context(),
		f.user,
		"123456"); err == nil || errs.As(err) != nil {
		t.Errorf("with another key-encryption key: %v", err)
	}
}

func TestChangesOfAFactorAreRecorded(t *testing.T) {
	f := newFixture(t)
	secret, recovery := f.enrolled(t)
	_, _ = f.RenewRecoveryCodes(t.Context(), f.user, f.wrong(t, secret))
	f.check(t, recovery[5], "")
	if _, err := f.RenewRecoveryCodes(t.Context(), f.user, f.code(t, secret, 0)); err != nil {
		t.Fatal(err)
	}
	f.clock.pass(time.Minute)
	if err := f.Disable(t.Context(), f.user, f.code(t, secret, 0)); err != nil {
		t.Fatal(err)
	}
	var rows []struct{ Type, Outcome, Reason string }
	if err := f.db.Gorm(t.Context()).Raw("SELECT type, outcome, reason FROM audit_events WHERE subject = ? AND type "+
		"LIKE 'second_factor.%' ORDER BY id", f.user).Scan(&rows).Error; err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, strings.TrimSpace(r.Type+" "+r.Outcome+" "+r.Reason))
	}
	want := []string{
		"second_factor.enrolled OK", "second_factor.confirmed OK",
		"second_factor.recovery_codes_renewed REFUSED TOTP_INVALID",
		"second_factor.recovery_code_used OK", "second_factor.recovery_codes_renewed OK", "second_factor.disabled OK",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("recorded\n%s", strings.Join(got, "\n"))
	}
}
