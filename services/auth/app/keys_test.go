package app_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/app"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// short is a policy under which a key can sign six seconds after it is made,
// with some seconds to spare for a busy machine.
func short() []string {
	return []string{
		"PURSER_KEYS_JWKS_MAX_AGE=2s", "PURSER_KEYS_POLL=200ms", "PURSER_KEYS_SIGNER_LEASE=10s",
		"PURSER_KEYS_CLOCK_SKEW=3s",
		"PURSER_KEYS_ROTATION_PERIOD=6s", "PURSER_KEYS_ROTATION_CRON=@every 1s", "PURSER_ACCESS_TTL=1m",
	}
}

// refreshEvery is less often than the bound of a session.
const refreshEvery = 400 * time.Millisecond

// command runs one of the program's commands on the service's database.
func (s service) command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cfg, err := app.Load(append(environ(s.db.URL), short()...))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = app.Command(t.Context(), cfg, slog.New(slog.DiscardHandler), args, &out)
	return out.String(), err
}

// asAdmin registers an account, makes it an admin and signs it in.
func (s service) asAdmin(t *testing.T) context.Context {
	t.Helper()
	s.register(t, "root@example.com")
	if _, err := s.command(t, "admin", "grant", "Root@example.com", "--unverified"); err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(t.Context(), s.login(t, "root@example.com").GetAccessToken())
}

func TestKeysRotateByThemselvesWhileTokensStayValid(t *testing.T) {
	t.Parallel() // it mostly waits
	s := start(t, short()...)
	admin := s.asAdmin(t)
	keys := authn.NewRemoteKeys(s.http+"/.well-known/jwks.json", slog.New(slog.DiscardHandler))
	defer keys.Close()
	verifier := authn.NewVerifier(keys, authn.Options{Issuer: issuer})
	s.register(t, "ada@example.com")
	first := s.login(t, "ada@example.com").GetAccessToken()
	refresh := s.login(t, "ada@example.com").GetRefreshToken()
	active := map[string]bool{}
	var last time.Time
	testkit.Eventually(t, time.Minute, func() bool {
		if time.Since(last) < refreshEvery {
			return false
		}
		last = time.Now()
		refreshed, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: refresh})
		if err != nil {
			t.Fatal(err)
		}
		refresh = refreshed.GetTokens().GetRefreshToken()
		for _, token := range []string{first, refreshed.GetTokens().GetAccessToken()} {
			if _, err := verifier.Verify(t.Context(), token); err != nil {
				t.Fatalf("after %d keys: %v", len(active), err)
			}
		}
		list, err := s.admin.ListSigningKeys(admin, &authv1.ListSigningKeysRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list.GetKeys() {
			if k.GetState() == authv1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE {
				active[k.GetKid()] = true
			}
		}
		return len(active) >= 3
	})
}

func TestAnAdminRotatesAndRevokesKeysAndNobodyElseDoes(t *testing.T) {
	s := start(t, "PURSER_KEYS_POLL=200ms")
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	user := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	_, err := s.admin.ListSigningKeys(user, &authv1.ListSigningKeysRequest{})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	_, err = s.admin.RevokeSigningKey(user, &authv1.RevokeSigningKeyRequest{Kid: "x"})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")

	_, err = s.admin.RotateSigningKey(admin, &authv1.RotateSigningKeyRequest{})
	want(t, err, errs.KindFailedPrecondition, "KEY_TOO_YOUNG")
	_, err = s.admin.RevokeSigningKey(admin, &authv1.RevokeSigningKeyRequest{Kid: "no such key"})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.admin.RevokeSigningKey(admin, &authv1.RevokeSigningKeyRequest{})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")

	before, err := s.admin.ListSigningKeys(admin, &authv1.ListSigningKeysRequest{})
	if err != nil || len(before.GetKeys()) != 2 {
		t.Fatal(before, err)
	}
	var active string
	for _, k := range before.GetKeys() {
		if k.GetState() == authv1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE {
			active = k.GetKid()
		}
	}
	revoked, err := s.admin.RevokeSigningKey(admin, &authv1.RevokeSigningKeyRequest{Kid: active})
	if err != nil || revoked.GetKey().GetKid() == active || !revoked.GetKey().GetPromotedEarly() {
		t.Fatal(revoked, err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return !strings.Contains(s.jwks(t), active) })
	testkit.Eventually(t, time.Minute, func() bool { // the admin's own token was the revoked key's
		_, err := s.admin.ListSigningKeys(admin, &authv1.ListSigningKeysRequest{})
		return errs.As(err) != nil && errs.As(err).Reason == "TOKEN_REVOKED"
	})
	admin = grpcclient.WithToken(t.Context(), s.login(t, "root@example.com").GetAccessToken())
	again, err := s.admin.RevokeSigningKey(admin, &authv1.RevokeSigningKeyRequest{Kid: active})
	if err != nil || again.GetKey().GetKid() != revoked.GetKey().GetKid() {
		t.Fatal("revoking twice changes more", again, err)
	}
}

func (s service) jwks(t *testing.T) string {
	t.Helper()
	resp, err := http.Get(s.http + "/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheCommandsSayWhatTheyDid(t *testing.T) {
	s := start(t)
	list, err := s.command(t, "keys", "list")
	if err != nil || !strings.Contains(list, "ACTIVE") || !strings.Contains(list, "STANDBY") ||
		!strings.Contains(list, "epoch 1, next step") {
		t.Fatal(list, err)
	}
	if _, err := s.command(t, "keys", "rotate"); errs.As(err) == nil || errs.As(err).Reason != "KEY_TOO_YOUNG" {
		t.Error(err)
	}
	kid := strings.Fields(list[strings.Index(list, "\n")+1:])[0]
	if out, err := s.command(t, "keys", "revoke", kid); err != nil || !strings.Contains(out, "REVOKED") {
		t.Error(out, err)
	}
	if _, err := s.command(t, "admin", "grant", "nobody@example.com"); errs.As(err) == nil ||
		errs.As(err).Kind != errs.KindNotFound {
		t.Error(err)
	}
	s.register(t, "ada@example.com")
	_, err = s.command(t, "admin", "grant", "ada@example.com")
	want(t, err, errs.KindFailedPrecondition, "EMAIL_UNVERIFIED")
	s.exec(t, "UPDATE users SET email_verified_at = now()")
	out, err := s.command(t, "admin", "grant", " Ada@example.com")
	if err != nil || !strings.Contains(out, `"Ada", registered on 20`) ||
		!strings.Contains(out, "was verified on 20") {
		t.Error(out, err)
	}
	for _, args := range [][]string{{"admin", "grant", "ada@example.com", "--verified"}, {"keys"}, {"keys", "melt"},
		{"keys", "rewrap", "x"}, {"keys", "revoke"},
		{"admin", "grant"}, {}} {
		if _, err := s.command(t, args...); !errors.Is(err, process.ErrUnknownCommand) {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestAKeyEncryptionKeyIsReplacedByCommand(t *testing.T) {
	s := start(t)
	fresh := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("n"), 32))
	run := func(args ...string) string {
		t.Helper()
		cfg, err := app.Load(append(environ(s.db.URL), "PURSER_KEK="+fresh, "PURSER_KEK_PREVIOUS="+kek()))
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := app.Command(t.Context(), cfg, slog.New(slog.DiscardHandler), args, &out); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if out := run("keys", "list"); strings.Count(out, "PREVIOUS") != 2 {
		t.Error(out)
	}
	if out := run("keys", "rewrap"); !strings.Contains(out,
		"put under PURSER_KEK: 2 signing keys, 0 second factors") || strings.Count(out, "current") != 2 {
		t.Error(out)
	}
	// with the old one alone
	if out, err := s.command(t, "keys", "list"); err != nil || strings.Count(out, "UNKNOWN") != 2 {
		t.Error(out, err)
	}
	if _, err := app.Load(append(environ(s.db.URL), "PURSER_KEK_PREVIOUS=c2hvcnQ=")); err == nil ||
		!strings.Contains(err.Error(), "PURSER_KEK_PREVIOUS must be 32 bytes") {
		t.Error(err)
	}
}

func TestTheAuditRecordIsVerifiedByCommand(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	if out, err := s.command(t, "audit", "verify"); err != nil ||
		!strings.Contains(out, "have no seal yet") && !strings.Contains(out, "whole: ") {
		t.Error(out, err)
	}
	for _, args := range [][]string{{"0", strings.Repeat("0", 64)}, {"1"}, {"1", "short"},
		{"x", strings.Repeat("0", 64)}} {
		if _, err := s.command(t, append([]string{"audit", "verify"}, args...)...); err == nil ||
			!strings.HasPrefix(err.Error(), "audit verify: ") {
			t.Errorf("%v: %v", args, err)
		}
	}
	var broken *audit.BrokenChainError
	if _, err := s.command(t, "audit", "verify", "1000", strings.Repeat("0", 64)); !errors.As(err, &broken) ||
		broken.Seal != 1000 {
		t.Error(err)
	}
}
