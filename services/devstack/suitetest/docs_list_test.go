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

// excludedStatements are the statements of the documents that are not run, by their program, or by their document
// and beginning, with the reason.
func excludedStatements() map[string]string {
	return map[string]string{
		"make": "CI runs the targets, or they start these tests",
		"docs/observability.md: OTEL": "starts these tests; services/devstack/traces tests it with a " +
			"collector",
		"docs/observability.md: grep":         "the log is that of make run",
		"docs/observability.md: curl":         "the suite has no admin port; pkg/process tests that of a program",
		"kubectl":                             "there is no cluster; k8s tests what would be applied to one",
		"docs/deploy.md: for s in auth":       "kind and kubectl, which have no cluster",
		"docs/deploy.md: KUBECONFIG":          "it needs a cluster",
		"docs/deploy.md: buildah push":        "there is no registry",
		"docs/deploy.md: git checkout":        "a release; tools/supply tests what it does",
		"docs/deploy.md: export COSIGN":       "a release; tools/supply tests what it does",
		"docs/deploy.md: cosign verify":       "cosign is a program of others, and takes minutes to build",
		"docs/deploy.md: PURSER_PROVE":        "a test of this package, which make prove runs",
		"docs/deploy.md: grpcurl -plaintext":  "it asks through a port that kubectl forwards",
		"docs/kubernetes.md: ":                "make cluster-test follows the page on a cluster",
		"docs/clients/node.md: ":              "TestTheSnippetsForNodeWork runs them",
		"docs/clients/python.md: ":            "TestTheSnippetsForPythonWork runs them",
		"docs/audit.md: auth audit verify 87": "a seal is made once a minute; services/auth tests the command",
	}
}

// adminDocs are the documents whose reader is an admin.
func adminDocs() []string {
	return []string{"docs/admin.md", "docs/deletions.md", "docs/jobs.md", "docs/observability.md",
		"docs/prices.md"}
}

// placeholder is a text in a document's statements that stands for a value known only when they run.
type placeholder struct {
	doc string
	// within is a text of the statements that have the placeholder.
	within, text string
	value        func(*testing.T, *reader) string
}

func placeholders() []placeholder {
	const accounts, admin, grpcurl, keys = "docs/accounts.md", "docs/admin.md", "docs/grpcurl.md",
		"docs/signing-keys.md"
	return []placeholder{
		{accounts, "VerifyEmail", "_4mF5JFd…", mailedCode("Confirm your e-mail address")},
		{accounts, "PasswordReset", "SYmXYnFl…", mailedCode("Set a new password")},
		{accounts, "ChangePassword", "$TOKEN", tokenWith("another stable of mine")},
		{accounts, "$TOKEN", "$TOKEN", tokenWith("the third stable of mine")},
		{accounts, "ConfirmEmailChange", "Xq7TvPb2…", movedTo("you.new@example.com")},

		{admin, "ConfirmTotp", "123456", totpCode},
		{admin, "Login", "123456", recoveryCode},
		{admin, "RenewRecoveryCodes", "…", recoveryCode},
		{admin, "DisableTotp", "…", recoveryCode},
		{admin, "AcceptInvitation", "…", invitationCode},
		{admin, "userId", "…", otherUserID},
		{admin, "subject", "…", otherUserID},

		{"docs/deletions.md", "userId", "…", otherUserID},

		{grpcurl, "CreateWallet", "eip155:31337:0x…",
			func(_ *testing.T, r *reader) string { return account(r.s, r.s.Chain.Holders()[0]) }},
		{grpcurl, "SyncWallet", "…", printedBefore(`"id": "([^"]+)"`)},
		{grpcurl, "StartOwnershipProof", "…", printedBefore(`"id": "([^"]+)"`)},
		{grpcurl, "ArchiveWallet", "…", printedBefore(`"id": "([^"]+)"`)},
		{grpcurl, "RestoreWallet", "…", printedBefore(`"id": "([^"]+)"`)},

		{"docs/outages.md", "DIR=.data", ".data", func(t *testing.T, r *reader) string { return dataFolder(t, r.s) }},

		{keys, "revoke KID", "KID", printedBefore(`(?m)^(\S+) +EdDSA `)},

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

// tokenWith signs the reader in with a new password.
func tokenWith(password string) func(*testing.T, *reader) string {
	return func(t *testing.T, r *reader) string {
		r.password = password
		return r.token(t)
	}
}

// mailedCode is the code in the latest mail to the reader with a subject.
func mailedCode(subject string) func(*testing.T, *reader) string {
	return func(t *testing.T, r *reader) string {
		m, err := r.s.Mail.Wait(t.Context(), r.email, func(m mailserver.Mail) bool { return m.Subject == subject })
		if err != nil {
			t.Fatal(err)
		}
		return demo.Code(m)
	}
}

// movedTo is the code that was mailed to a new address, which is the reader's from then on.
func movedTo(email string) func(*testing.T, *reader) string {
	return func(t *testing.T, r *reader) string {
		r.email = email
		return mailedCode("Confirm your new e-mail address")(t, r)
	}
}

// printedBefore is the first group of the pattern in the latest output that matches.
func printedBefore(pattern string) func(*testing.T, *reader) string {
	re := regexp.MustCompile(pattern)
	return func(t *testing.T, r *reader) string {
		for _, printed := range slices.Backward(r.printed) {
			if found := re.FindStringSubmatch(printed); found != nil {
				return found[1]
			}
		}
		t.Errorf("no output matches %s", pattern)
		return ""
	}
}

// totpCode is the current code of the secret printed before.
func totpCode(t *testing.T, r *reader) string {
	code, err := totp.GenerateCode(printedBefore(`"secret": "([^"]+)"`)(t, r), time.Now())
	if err != nil {
		t.Error(err)
	}
	return code
}

// recoveryCode is an unused recovery code printed before.
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

// invitationCode is that of the invitation in the document.
func invitationCode(t *testing.T, r *reader) string {
	m, err := r.s.Mail.Wait(t.Context(), "new@example.com", func(mailserver.Mail) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	return demo.Code(m)
}

// otherUserID is the id of a user other than the reader.
func otherUserID(t *testing.T, r *reader) string {
	if r.other == "" {
		c := dial(t, r.s.Endpoints)
		ctx, _ := signIn(t, c)
		me, err := c.Accounts.GetMe(ctx, &authv1.GetMeRequest{})
		if err != nil {
			t.Fatal(err)
		}
		r.other = me.GetUser().GetId()
		if _, err := connect(t, r.s.Postgres.URL)["auth"].Exec(t.Context(),
			"UPDATE users SET email_verified_at = now() WHERE id = $1", r.other); err != nil { // as by the mailed code
			t.Fatal(err)
		}
	}
	return r.other
}
