package app_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func (s service) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := s.db.SQL().ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatal(err)
	}
}

// events lists the types of what was recorded, in order.
func (s service) events(t *testing.T) (types []string) {
	t.Helper()
	err := s.db.Gorm(t.Context()).Raw("SELECT type || ' ' || outcome || ' ' || reason FROM audit_events ORDER BY id").
		Scan(&types).Error
	if err != nil {
		t.Fatal(err)
	}
	return types
}

func (s service) me(t *testing.T, token string) *authv1.User {
	t.Helper()
	resp, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), token), &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetUser()
}

func TestAnAccountWithAVerifiedAddressIsLinkedAndKeepsItsPassword(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "ada@example.com")
	s.exec(t, "UPDATE users SET email_verified_at = now()")
	before := s.login(t, "ada@example.com")
	p.signedIn("ada", " ADA@Example.com", true)
	if _, err := s.sessions.FinishOAuth(t.Context(), s.begin(t, p)); err == nil {
		t.Error("an address with a space was taken")
	}
	p.signedIn("ada", "ADA@Example.com", true)
	after := s.signIn(t, p)
	if s.me(t, after.GetAccessToken()).GetId() != s.me(t, before.GetAccessToken()).GetId() {
		t.Error("another account")
	}
	s.login(t, "ada@example.com")
	if _, err := s.sessions.Refresh(t.Context(),
		&authv1.RefreshRequest{RefreshToken: before.GetRefreshToken()}); err != nil {
		t.Error(err)
	}
}

// Mallory registers Ada's address before Ada does and waits for her.
func TestTheOwnerOfAnAddressReclaimsTheAccountThatSomebodyElseRegistered(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "ada@example.com")
	mallory := s.login(t, "ada@example.com")
	ctx := grpcclient.WithToken(t.Context(), mallory.GetAccessToken())
	key, err := s.keys.CreateApiKey(ctx, &authv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"portfolio:read"}})
	if err != nil {
		t.Fatal(err)
	}
	id := s.me(t, mallory.GetAccessToken()).GetId()
	s.exec(t, "INSERT INTO identities VALUES ($1, $2, 'corp', 'mallory', '', now(), NULL)", uuid.New(), id)
	s.exec(t, "INSERT INTO second_factors VALUES ($1, '', '', now(), now(), 0, 0, NULL, '[]')", id)

	p.signedIn("ada", "ada@example.com", true)
	if got := s.me(t, s.signIn(t, p).GetAccessToken()); got.GetId() != id {
		t.Fatal("another account")
	}
	_, err = s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: password})
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: mallory.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key.GetKey()})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	p.signedIn("mallory", "ada@example.com", false)
	_, err = s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
	want(t, err, errs.KindFailedPrecondition, "PROVIDER_EMAIL_UNVERIFIED")
	var announced int
	if err := s.db.SQL().QueryRowContext(t.Context(),
		"SELECT count(*) FROM revocations WHERE kind = 'SESSION'").Scan(&announced); err != nil || announced != 2 {
		t.Error(announced, err)
	}
	if e := s.events(t); !slices.Contains(e, "account.reclaimed OK EMAIL_UNVERIFIED") ||
		!slices.Contains(e, "identity.linked OK EMAIL_VERIFIED") ||
		!slices.Contains(e, "session.login REFUSED PROVIDER_EMAIL_UNVERIFIED") {
		t.Error(e)
	}
}

func TestAnUnverifiedAddressLinksNothing(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "kit@example.com")
	s.exec(t, "UPDATE users SET email_verified_at = now()")
	for name, c := range map[string]map[string]any{
		"not verified":              {"sub": "x", "email": "kit@example.com", "email_verified": false},
		"verified, says a string":   {"sub": "x", "email": "kit@example.com", "email_verified": "yes"},
		"no word of it":             {"sub": "x", "email": "kit@example.com"},
		"no address":                {"sub": "x", "email_verified": true},
		"a letter that lowers to k": {"sub": "x", "email": "\u212ait@example.com", "email_verified": true},
		"a NUL byte":                {"sub": "x", "email": "kit@example.com\x00", "email_verified": true},
		"two at signs":              {"sub": "x", "email": "a@kit@example.com", "email_verified": true},
	} {
		t.Run(name, func(t *testing.T) {
			p.mu.Lock()
			p.claims = c
			p.mu.Unlock()
			_, err := s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
			want(t, err, errs.KindFailedPrecondition, "PROVIDER_EMAIL_UNVERIFIED")
		})
	}
	p.mu.Lock()
	p.claims = map[string]any{"sub": "x", "email": "kit@example.com", "email_verified": "true"} // as some write it
	p.mu.Unlock()
	s.signIn(t, p)
}

func TestADisabledAccountIsNotLinkedNorSignedInTo(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "ada@example.com")
	s.exec(t, "UPDATE users SET email_verified_at = now(), disabled_at = now()")
	_, err := s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
	want(t, err, errs.KindUnauthenticated, "ACCOUNT_DISABLED")
	s.exec(t, "UPDATE users SET disabled_at = NULL")
	s.signIn(t, p)
	s.exec(t, "UPDATE users SET disabled_at = now()")
	_, err = s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
	want(t, err, errs.KindUnauthenticated, "ACCOUNT_DISABLED")
}

func TestConcurrentFirstSignInsCreateOneAccount(t *testing.T) {
	s, p := withProvider(t)
	const n = 8
	asked := make([]*authv1.FinishOAuthRequest, n)
	for i := range asked {
		asked[i] = s.begin(t, p)
	}
	var mu sync.Mutex
	ids := map[string]bool{}
	var all sync.WaitGroup
	for _, r := range asked {
		all.Go(func() {
			resp, err := s.sessions.FinishOAuth(context.WithoutCancel(t.Context()), r)
			if err != nil {
				t.Error(err)
				return
			}
			me, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), resp.GetTokens().GetAccessToken()),
				&authv1.GetMeRequest{})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ids[me.GetUser().GetId()] = true
		})
	}
	all.Wait()
	var users, identities int
	err := s.db.SQL().QueryRowContext(t.Context(),
		"SELECT (SELECT count(*) FROM users), count(*) FROM identities").Scan(&users, &identities)
	if err != nil || len(ids) != 1 || users != 1 || identities != 1 {
		t.Errorf("%d ids, %d users, %d identities, %v", len(ids), users, identities, err)
	}
}

func TestTheLastWayToSignInCanNotBeUnlinked(t *testing.T) {
	s, p := withProvider(t)
	ada := grpcclient.WithToken(t.Context(), s.signIn(t, p).GetAccessToken())
	p.signedIn("eve", "eve@example.com", true)
	eve := grpcclient.WithToken(t.Context(), s.signIn(t, p).GetAccessToken())
	list, err := s.identities.ListIdentities(ada, &authv1.ListIdentitiesRequest{})
	if err != nil || len(list.GetIdentities()) != 1 {
		t.Fatal(list, err)
	}
	unlink := &authv1.UnlinkIdentityRequest{IdentityId: list.GetIdentities()[0].GetIdentityId()}
	_, err = s.identities.UnlinkIdentity(eve, unlink)
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.identities.UnlinkIdentity(ada, unlink)
	want(t, err, errs.KindFailedPrecondition, "LAST_SIGN_IN_METHOD")
	s.exec(t, "UPDATE users SET password_hash = 'a hash' WHERE email = 'ada@example.com'")
	if _, err := s.identities.UnlinkIdentity(ada, unlink); err != nil {
		t.Fatal(err)
	}
	_, err = s.identities.UnlinkIdentity(ada, unlink)
	want(t, err, errs.KindNotFound, "NOT_FOUND")

	s.exec(t, "INSERT INTO identities SELECT gen_random_uuid(), user_id, 'corp', 'other', '', now(), NULL FROM "+
		"identities")
	list, err = s.identities.ListIdentities(eve, &authv1.ListIdentitiesRequest{})
	if err != nil || len(list.GetIdentities()) != 2 {
		t.Fatal(list, err)
	}
	var all sync.WaitGroup
	for _, i := range list.GetIdentities() { // both at once: one has to stay
		all.Go(func() {
			_, _ = s.identities.UnlinkIdentity(eve, &authv1.UnlinkIdentityRequest{IdentityId: i.GetIdentityId()})
		})
	}
	all.Wait()
	if list, err = s.identities.ListIdentities(eve, &authv1.ListIdentitiesRequest{}); err != nil ||
		len(list.GetIdentities()) != 1 {
		t.Error(list, err)
	}
}
