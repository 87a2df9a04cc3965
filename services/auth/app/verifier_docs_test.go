package app_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/lestrrat-go/httprc/v3"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const (
	// keySetAge is the max-age of the key set, in seconds, for the service and the verifiers.
	keySetAge = 2
	// longAge is one that doesn't end during a test.
	longAge = 600
	// revocationBound is how late a revocation may show: the max-age, two seconds of jwx's clock, and three more for a
	// busy machine.
	revocationBound = (keySetAge + 5) * time.Second
)

// keyed is a service whose keys change only when the test says so.
type keyed struct {
	service
	issuer  string
	admin   context.Context //nolint:containedctx // carries the admin's token
	refresh string
}

func startKeyed(t *testing.T, algorithm string) *keyed {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close() // the service listens there
	k := &keyed{issuer: "http://" + addr}
	k.service = start(t, append(short(), "PURSER_HTTP_ADDR="+addr, "PURSER_ISSUER="+k.issuer,
		"PURSER_KEYS_ALGORITHM="+algorithm, "PURSER_KEYS_ROTATION_PERIOD=1h", "PURSER_ACCESS_TTL=5m")...)
	k.admin = k.asAdmin(t)
	k.register(t, "ada@example.com")
	k.refresh = k.login(t, "ada@example.com").GetRefreshToken()
	return k
}

// token returns a new one and the id of its key.
func (k *keyed) token(t *testing.T) (token, kid string) {
	t.Helper()
	var resp *authv1.RefreshResponse
	testkit.Eventually(t, time.Minute, func() bool {
		var err error
		resp, err = k.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: k.refresh})
		if err != nil && (errs.As(err) == nil || errs.As(err).Reason != "SIGNING_UNAVAILABLE") {
			t.Fatal(err) // on a busy machine a replica's lease of a few seconds may run out for a moment
		}
		return err == nil
	})
	k.refresh = resp.GetTokens().GetRefreshToken()
	token = resp.GetTokens().GetAccessToken()
	return token, kidOf(t, token)
}

// tokenOfNextKey waits until another key than kid signs.
func (k *keyed) tokenOfNextKey(t *testing.T, kid string) (token, next string) {
	t.Helper()
	var last time.Time
	testkit.Eventually(t, time.Minute, func() bool {
		if time.Since(last) < refreshEvery {
			return false
		}
		last = time.Now()
		token, next = k.token(t)
		return next != kid
	})
	return token, next
}

// rotate waits until the standby may become the active key.
func (k *keyed) rotate(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		_, err := k.service.admin.RotateSigningKey(k.admin, &authv1.RotateSigningKeyRequest{})
		if err != nil && (errs.As(err) == nil || errs.As(err).Reason != "KEY_TOO_YOUNG") {
			t.Fatal(err)
		}
		return err == nil
	})
}

// The code of docs/verifiers against a rotation and a revocation. Each verifier is also run with a JWKS_MAX_AGE that
// is too long, as the control: it still accepts the token of the revoked key when the others reject it.
func TestTheVerifiersOfTheDocsFollowRotationsAndRevocations(t *testing.T) {
	t.Parallel()
	commands := verifierCommands(t)
	for algorithm, names := range map[string][]string{
		"EdDSA": {"jose", "openid-client", "go-oidc", "jwx"},
		"RS256": {"jose", "openid-client", "go-oidc", "jwx", "jsonwebtoken"},
	} {
		t.Run(algorithm, func(t *testing.T) {
			t.Parallel()
			k := startKeyed(t, algorithm)
			first, kid := k.token(t)
			var short, long []*verifier
			for name, command := range commands {
				if !slices.Contains(names, name) {
					err := startVerifier(t, name, command, k.issuer, keySetAge).verify(first)
					if err == nil || !strings.Contains(err.Error(), "invalid algorithm") &&
						!strings.Contains(err.Error(), "Unknown key type") {
						t.Errorf("%s and %s: %v", name, algorithm, err)
					}
					continue
				}
				short = append(short, startVerifier(t, name, command, k.issuer, keySetAge))
				long = append(long, startVerifier(t, name, command, k.issuer, longAge))
			}
			accept := func(what, token string) {
				t.Helper()
				for _, v := range append(slices.Clone(short), long...) {
					if err := v.verify(token); err != nil {
						t.Errorf("%s rejects %s: %v", v.name, what, err)
					}
				}
			}
			accept("a token of the first key", first)

			k.rotate(t)
			second, kid2 := k.tokenOfNextKey(t, kid)
			accept("a token of the new key", second)
			accept("a token of the key before", first)

			if _, err := k.service.admin.RevokeSigningKey(k.admin,
				&authv1.RevokeSigningKeyRequest{Kid: kid2}); err != nil {
				t.Fatal(err)
			}
			third, _ := k.tokenOfNextKey(t, kid2)
			var all sync.WaitGroup
			for _, v := range short {
				all.Go(func() {
					rejected := v.until(t, second, false, revocationBound)
					accepted := v.until(t, third, true, revocationBound)
					testkit.Figure(t, "%s, %s, JWKS_MAX_AGE=%d: a token of a revoked key was rejected after %.1f s, "+
						"one of the key promoted for it accepted %.1f s later", v.name, algorithm, keySetAge,
						rejected.Seconds(), accepted.Seconds())
				})
			}
			all.Wait()
			for _, v := range long {
				if err := v.verify(second); err != nil {
					t.Errorf("the control: %s with a JWKS_MAX_AGE of %d s rejects it too: %v", v.name, longAge, err)
				}
			}
			for _, v := range short {
				if err := v.verify(first); err != nil {
					t.Errorf("%s rejects a token of a key that is not revoked: %v", v.name, err)
				}
			}
		})
	}
}

// What the pages say of the libraries' defaults.
func TestTheDefaultsOfTheLibrariesAreAsTheDocsSay(t *testing.T) {
	t.Parallel()
	needNode(t)
	k := startKeyed(t, "EdDSA")
	token, kid := k.token(t)
	node := startDefaults(t, k.issuer, kid, "EdDSA")

	provider, err := oidc.NewProvider(t.Context(), k.issuer)
	if err != nil {
		t.Fatal(err)
	}
	byDefault := provider.VerifierContext(context.WithoutCancel(t.Context()), &oidc.Config{ClientID: "purser"})
	if _, err := byDefault.Verify(t.Context(), token); err == nil ||
		!strings.Contains(err.Error(), `unexpected signature algorithm "EdDSA"; expected ["RS256"]`) {
		t.Errorf("go-oidc by default: %v", err)
	}
	goOIDC := provider.VerifierContext(context.WithoutCancel(t.Context()),
		&oidc.Config{ClientID: "purser", SupportedSigningAlgs: []string{oidc.EdDSA}})
	if _, err := goOIDC.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}

	cache, err := jwk.NewCache(t.Context(), httprc.NewClient())
	if err != nil {
		t.Fatal(err)
	}
	keySet := k.issuer + "/.well-known/jwks.json"
	if err := cache.Register(t.Context(), keySet); err != nil {
		t.Fatal(err)
	}
	resource, err := cache.LookupResource(t.Context(), keySet)
	if err != nil {
		t.Fatal(err)
	}
	if next := time.Until(resource.Next()).Round(time.Minute); next != 15*time.Minute {
		t.Errorf("jwx reads a set with a max-age of %d s again after %s", keySetAge, next)
	}

	if _, err := k.service.admin.RevokeSigningKey(k.admin, &authv1.RevokeSigningKeyRequest{Kid: kid}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { return !strings.Contains(k.jwks(t), kid) })
	if minutes := node(); minutes["jose"] != 10 || minutes["jwks-rsa"] != 10 {
		t.Errorf("by default a key that is out of the set is accepted for %v minutes", minutes)
	}
	promoted, _ := k.tokenOfNextKey(t, kid)
	for _, tc := range []string{promoted, token} { // the promoted key was in the set that go-oidc has
		if _, err := goOIDC.Verify(t.Context(), tc); err != nil {
			t.Errorf("go-oidc reads the set again earlier than the page says: %v", err)
		}
	}
}

// startDefaults runs defaults.mjs until it has read the key. The function lets it go on, and returns for how many
// minutes each library accepts the key.
func startDefaults(t *testing.T, issuer, kid, algorithm string) func() map[string]int {
	t.Helper()
	text, err := filepath.Abs("testdata/verifiers/defaults.mjs")
	if err != nil {
		t.Fatal(err)
	}
	// It is copied to where Node finds the packages.
	run := exec.CommandContext(t.Context(), "sh", "-c", `cp "$0" defaults.mjs && exec node defaults.mjs "$@"`, text,
		issuer, kid, algorithm)
	run.Dir = verifierFolder
	var stderr strings.Builder
	run.Stderr = &stderr
	in, err := run.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = run.Wait()
	})
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "read\n" {
		t.Fatalf("%q, %v\n%s", line, err, stderr.String())
	}
	return func() map[string]int {
		t.Helper()
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Fatal(err)
		}
		line, err := lines.ReadString('\n')
		minutes := map[string]int{}
		if err == nil {
			err = json.Unmarshal([]byte(line), &minutes)
		}
		if err != nil {
			t.Fatalf("%q, %v\n%s", line, err, stderr.String())
		}
		return minutes
	}
}
