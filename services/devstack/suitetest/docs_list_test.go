package suitetest

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/internal/mailserver"
)

// leftOut are the statements of the documents that are not run, by their
// program, or by their document and beginning, with the reason.
func leftOut() map[string]string {
	return map[string]string{
		"make": "CI runs the targets, or they start what these tests are part of",
		"docs/observability.md: OTEL": "starts what these tests are part of; services/devstack/traces tests " +
			"it with a collector",
		"docs/observability.md: grep":         "the log is that of make run",
		"docs/observability.md: curl":         "the suite has no admin port; pkg/process tests that of a program",
		"kubectl":                             "there is no cluster; k8s tests what would be applied to one",
		"docs/deploy.md: for s in auth":       "kind and kubectl, which have no cluster",
		"docs/deploy.md: grpcurl -plaintext":  "it asks through a port that kubectl forwards",
		"docs/audit.md: auth audit verify 87": "a seal is made once a minute; services/auth tests the command with one",
	}
}

// operators are the documents whose reader is an admin.
func operators() []string { return []string{"docs/admin.md", "docs/jobs.md"} }

// put is a value that a document can't know, in the statements of it that have
// certain words.
type put struct {
	doc, in, left string
	value         func(*testing.T, *reader) string
}

func puts() []put {
	const accounts, admin, grpcurl, keys = "docs/accounts.md", "docs/admin.md", "docs/grpcurl.md",
		"docs/signing-keys.md"
	return []put{
		{accounts, "VerifyEmail", "_4mF5JFd…", mailed("Confirm your e-mail address")},
		{accounts, "PasswordReset", "SYmXYnFl…", mailed("Set a new password")},
		{accounts, "ChangePassword", "$TOKEN", signedIn("another stable of mine")},
		{accounts, "$TOKEN", "$TOKEN", signedIn("the third stable of mine")},

		{admin, "ConfirmTotp", "123456", authenticator},
		{admin, "Login", "123456", recoveryCode},
		{admin, "RenewRecoveryCodes", "…", recoveryCode},
		{admin, "DisableTotp", "…", recoveryCode},
		{admin, "userId", "…", somebody},
		{admin, "subject", "…", somebody},

		{grpcurl, "CreateWallet", "eip155:31337:0x…",
			func(_ *testing.T, r *reader) string { return account(r.s, r.s.Chain.Holders()[0]) }},
		{grpcurl, "SyncWallet", "…", last(`"id": "([^"]+)"`)},

		{keys, "revoke KID", "KID", last(`(?m)^(\S+) +EdDSA `)},

		{"docs/sign-in.md", "-c jar -b jar", "jar",
			func(_ *testing.T, r *reader) string { return filepath.Join(r.dir, "jar") }},
	}
}

// token signs the reader in.
func (r *reader) token(t *testing.T) string {
	t.Helper()
	resp, err := dial(t, r.s.Endpoints).Sessions.Login(t.Context(),
		&authv1.LoginRequest{Email: r.email, Password: r.password})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetTokens().GetAccessToken()
}

// signedIn is a token that the reader gets with a password.
func signedIn(password string) func(*testing.T, *reader) string {
	return func(t *testing.T, r *reader) string {
		r.password = password
		return r.token(t)
	}
}

// mailed is the code of the last mail to the reader with a subject.
func mailed(subject string) func(*testing.T, *reader) string {
	return func(t *testing.T, r *reader) string {
		m, err := r.s.Mail.Wait(t.Context(), r.email, func(m mailserver.Mail) bool { return m.Subject == subject })
		if err != nil {
			t.Fatal(err)
		}
		return demo.Code(m)
	}
}

// last is a part of what a statement before printed, the latest that had it.
func last(pattern string) func(*testing.T, *reader) string {
	re := regexp.MustCompile(pattern)
	return func(t *testing.T, r *reader) string {
		for _, printed := range slices.Backward(r.printed) {
			if found := re.FindStringSubmatch(printed); found != nil {
				return found[1]
			}
		}
		t.Errorf("nothing printed has %s", pattern)
		return ""
	}
}

// authenticator is the code of an app that has the secret which was printed.
func authenticator(t *testing.T, r *reader) string {
	code, err := totp.GenerateCode(last(`"secret": "([^"]+)"`)(t, r), time.Now())
	if err != nil {
		t.Error(err)
	}
	return code
}

// recoveryCode is one that was printed and not used yet.
func recoveryCode(t *testing.T, r *reader) string {
	for _, printed := range slices.Backward(r.printed) {
		_, codes, ok := strings.Cut(printed, `"recoveryCodes": [`)
		if !ok {
			continue
		}
		for _, code := range regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(codes, -1) {
			if !r.used[code[1]] {
				r.used[code[1]] = true
				return code[1]
			}
		}
	}
	t.Error("no recovery code is left")
	return ""
}

// somebody is the id of a user other than the reader.
func somebody(t *testing.T, r *reader) string {
	if r.other == "" {
		c := dial(t, r.s.Endpoints)
		ctx, _ := signIn(t, c)
		me, err := c.Accounts.GetMe(ctx, &authv1.GetMeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		r.other = me.GetUser().GetId()
	}
	return r.other
}
