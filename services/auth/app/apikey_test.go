package app_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestAnAPIKeyIsExchangedForATokenWithinItsScopes(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	s.register(t, "eve@example.com")
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	eve := grpcclient.WithToken(t.Context(), s.login(t, "eve@example.com").GetAccessToken())
	made, err := s.keys.CreateApiKey(ada, &authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"portfolio:read"},
		AllowedCidrs: []string{"127.0.0.0/8"}})
	if err != nil {
		t.Fatal(err)
	}
	if k := made.GetApiKey(); !strings.HasPrefix(made.GetKey(), "purser_key_") ||
		k.GetAllowedCidrs()[0] != "127.0.0.0/8" || k.GetExpireTime().AsTime().Before(time.Now().Add(89*24*time.Hour)) {
		t.Errorf("%v", made)
	}
	var stored int
	if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM api_keys k WHERE strpos(k::text, $1) > 0",
		made.GetKey()).Scan(&stored); err != nil || stored != 0 {
		t.Error("the key itself is stored", err)
	}
	got, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: made.GetKey()})
	if err != nil || time.Until(got.GetAccessExpireTime().AsTime()) > 5*time.Minute {
		t.Fatal(got, err)
	}
	bot := grpcclient.WithToken(t.Context(), got.GetAccessToken())
	seen, err := s.tokens.Introspect(eve, &authv1.IntrospectRequest{Token: got.GetAccessToken()})
	if err != nil || !seen.GetActive() || fmt.Sprint(seen.GetPermissions()) != "[portfolio:read]" ||
		len(seen.GetRoles()) != 0 {
		t.Errorf("%v, %v", seen, err)
	}
	for name, call := range map[string]func() error{
		"makes a key": func() error {
			_, err := s.keys.CreateApiKey(bot,
				&authv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"portfolio:read"}})
			return err
		},
		"lists keys": func() error { _, err := s.keys.ListApiKeys(bot, &authv1.ListApiKeysRequest{}); return err },
		"revokes a key": func() error {
			_, err := s.keys.RevokeApiKey(bot, &authv1.RevokeApiKeyRequest{ApiKeyId: uuid.NewString()})
			return err
		},
		"lists sessions": func() error {
			_, err := s.sessions.ListSessions(bot,
				&authv1.ListSessionsRequest{})
			return err
		},
		"ends sessions": func() error { _, err := s.sessions.LogoutAll(bot, &authv1.LogoutAllRequest{}); return err },
		"revokes another": func() error {
			_, err := s.sessions.RevokeSession(bot, &authv1.RevokeSessionRequest{SessionId: uuid.NewString()})
			return err
		},
	} {
		if e := errs.As(call()); e == nil || e.Reason != "API_KEY_CALLER" {
			t.Errorf("a key %s: %v", name, e)
		}
	}

	_, err = s.keys.RevokeApiKey(eve, &authv1.RevokeApiKeyRequest{ApiKeyId: made.GetApiKey().GetApiKeyId()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	for range 2 {
		if _, err := s.keys.RevokeApiKey(ada,
			&authv1.RevokeApiKeyRequest{ApiKeyId: made.GetApiKey().GetApiKeyId()}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: made.GetKey()})
	revoked := want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: "purser_key_unknown"})
	if unknown := want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID"); unknown.Error() != revoked.Error() {
		t.Error("an unknown key is told from a revoked one")
	}
	testkit.Eventually(t, 5*time.Second, func() bool { // the revoked key's token is good no more
		seen, err := s.tokens.Introspect(eve, &authv1.IntrospectRequest{Token: got.GetAccessToken()})
		return err == nil && !seen.GetActive()
	})
	list, err := s.keys.ListApiKeys(ada, &authv1.ListApiKeysRequest{})
	if err != nil || len(list.GetApiKeys()) != 1 || list.GetApiKeys()[0].GetRevokeTime() == nil ||
		list.GetApiKeys()[0].GetLastUseTime() == nil {
		t.Error(list, err)
	}
	if list, err := s.keys.ListApiKeys(eve, &authv1.ListApiKeysRequest{}); err != nil || len(list.GetApiKeys()) != 0 {
		t.Error(list, err)
	}
}

func TestAnAPIKeyThatBreaksARuleIsNotCreated(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	read := []string{"portfolio:read"}
	for name, tc := range map[string]struct {
		request *authv1.CreateApiKeyRequest
		kind    errs.Kind
		reason  string
	}{
		"a scope that the caller doesn't hold": {&authv1.CreateApiKeyRequest{Name: "x",
			Scopes: []string{"admin:system"}}, errs.KindPermissionDenied, "SCOPE_NOT_HELD"},
		"no scope": {&authv1.CreateApiKeyRequest{Name: "x"}, errs.KindInvalid,
			"INVALID_ARGUMENT"},
		"no name": {&authv1.CreateApiKeyRequest{Name: " ", Scopes: read},
			errs.KindInvalid, "INVALID_ARGUMENT"},
		"a prefix that is none": {&authv1.CreateApiKeyRequest{Name: "x", Scopes: read,
			AllowedCidrs: []string{"all"}}, errs.KindInvalid, "INVALID_ARGUMENT"},
		"an expiry in the past": {&authv1.CreateApiKeyRequest{Name: "x", Scopes: read,
			ExpireTime: timestamppb.New(time.Now().Add(-time.Hour))}, errs.KindInvalid, "INVALID_ARGUMENT"},
		"an expiry in two years": {&authv1.CreateApiKeyRequest{Name: "x", Scopes: read,
			ExpireTime: timestamppb.New(time.Now().Add(2 * 366 * 24 * time.Hour))}, errs.KindInvalid,
			"INVALID_ARGUMENT"},
		"an expiry that is no time": {&authv1.CreateApiKeyRequest{Name: "x", Scopes: read,
			ExpireTime: &timestamppb.Timestamp{Seconds: 1 << 60}}, errs.KindInvalid, "INVALID_ARGUMENT"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.keys.CreateApiKey(ada, tc.request)
			want(t, err, tc.kind, tc.reason)
		})
	}
	elsewhere, err := s.keys.CreateApiKey(ada,
		&authv1.CreateApiKeyRequest{Name: "x", Scopes: read, AllowedCidrs: []string{"192.0.2.0/24", "::/0"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: elsewhere.GetKey()})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")

	var made atomic.Int64
	var all sync.WaitGroup
	for range 60 {
		all.Go(func() {
			for {
				_, err := s.keys.CreateApiKey(ada, &authv1.CreateApiKeyRequest{Name: "x", Scopes: read})
				e := errs.As(err)
				switch {
				case err == nil:
					made.Add(1)
				case e != nil && e.Kind == errs.KindUnavailable: // on a busy machine no connection was free in time
					continue
				case e == nil || e.Reason != "TOO_MANY_API_KEYS":
					t.Error(err)
				}
				return
			}
		})
	}
	all.Wait()
	if made.Load() != 49 {
		t.Errorf("%d keys beside one", made.Load())
	}
}
