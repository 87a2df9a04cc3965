package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// link gives a wallet to whoever has this access token.
func (s service) link(t *testing.T, token string, w wallet) {
	t.Helper()
	ctx := grpcclient.WithToken(t.Context(), token)
	message := s.linkMessage(t, ctx, w.address)
	_, err := s.identities.LinkWallet(ctx,
		&authv1.LinkWalletRequest{Message: message, Signature: hexed(w.sign(message))})
	if err != nil {
		t.Fatal(err)
	}
}

// Mallory made the account in advance and signs in with a wallet at the moment
// at which its owner takes it over.
func TestAnIdentityThatIsUnlinkedMeanwhileDoesNotSignIn(t *testing.T) {
	s, w := withWallets(t), newWallet(t)
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	id := s.me(t, token).GetId()
	s.link(t, token, w)
	message := s.message(t, w.address)

	tx, err := s.db.SQL().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for _, statement := range []string{"SELECT 1 FROM users FOR UPDATE", "DELETE FROM identities"} {
		if _, err := tx.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	type answer struct {
		tokens *authv1.Tokens
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		tokens, err := s.finish(t, message, w.sign(message))
		answered <- answer{tokens, err}
	}()
	testkit.Eventually(t, time.Minute, func() bool {
		var waiting int
		err := s.db.SQL().QueryRowContext(t.Context(),
			"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "+
				"AND wait_event_type = 'Lock'").Scan(&waiting)
		return err == nil && waiting > 0
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	got := <-answered
	if got.err != nil {
		t.Fatal(got.err)
	}
	if s.me(t, got.tokens.GetAccessToken()).GetId() == id {
		t.Error("the wallet signs in to an account that it belongs to no more")
	}
}

func TestALoginCodeIsValidWhileItsIdentityIsLinked(t *testing.T) {
	s, p := withProvider(t)
	s.register(t, "ada@example.com")
	s.exec(t, "UPDATE users SET email_verified_at = now()")
	b := browser(t)
	hosted := func() string {
		_, to := open(t, b, s.startHosted(t, b, p, nil))
		return must(t, to).Query().Get("code")
	}
	used, late := hosted(), hosted()
	if _, err := s.sessions.ExchangeLoginCode(t.Context(), &authv1.ExchangeLoginCodeRequest{Code: used}); err != nil {
		t.Fatal(err) // the control
	}
	ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
	list, err := s.identities.ListIdentities(ada, &authv1.ListIdentitiesRequest{})
	if err != nil || len(list.GetIdentities()) != 1 {
		t.Fatal(list, err)
	}
	if _, err := s.identities.UnlinkIdentity(ada,
		&authv1.UnlinkIdentityRequest{IdentityId: list.GetIdentities()[0].GetIdentityId()}); err != nil {
		t.Fatal(err)
	}
	_, err = s.sessions.ExchangeLoginCode(t.Context(), &authv1.ExchangeLoginCodeRequest{Code: late})
	want(t, err, errs.KindUnauthenticated, "IDENTITY_UNLINKED")
}

// What is typed as an address may read like the name under which something else
// of an account is counted.
func TestGuessesAtMadeUpAddressesLockNobodyOut(t *testing.T) {
	s := start(t, "PURSER_ATTEMPTS_PER_ADDRESS=100000")
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	ada, id := grpcclient.WithToken(t.Context(), token), s.me(t, token).GetId()
	for _, name := range []string{"user:" + id, "password:" + id, "mail:ada@example.com"} {
		untilRefused(t, 5, func(int) error { return s.guess(t, strings.ToUpper(name)) },
			func(err error) { want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS") })
	}
	if _, err := s.sessions.Reauthenticate(ada, &authv1.ReauthenticateRequest{Password: password}); err != nil {
		t.Error(err)
	}
	if _, err := s.accounts.RequestPasswordReset(t.Context(),
		&authv1.RequestPasswordResetRequest{Email: "ada@example.com"}); err != nil {
		t.Error(err)
	}
	_, err := s.accounts.ChangePassword(ada, &authv1.ChangePasswordRequest{CurrentPassword: password,
		NewPassword: "another horse battery"})
	if err != nil {
		t.Error(err)
	}
}
