package suitetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
)

// firstSteps is a suite as `make run DEMO=0` starts it, and a shell in which its user pastes what it prints.
type firstSteps struct {
	c    *command
	port int
	dir  string
	sh   *shell
}

func startWithoutDemo(t *testing.T, settings ...string) *firstSteps {
	t.Helper()
	makeGrpcurl(t)
	bin, err := filepath.Abs(filepath.Join(checkout, "bin"))
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-trimpath", "-o", bin+"/", "./services/devstack/cmd/devstack") // as make run
	build.Dir = checkout
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f := &firstSteps{dir: testkit.Folder(t), port: freePorts(t)}
	f.c = devstack(t, f.dir, f.port, append(settings, "PURSER_DEMO=false")...)
	f.sh = startShell(t, testkit.Folder(t), append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH")))
	return f
}

// paste runs the printed lines that begin with one of these words, in their order, and returns their outputs by line.
func (f *firstSteps) paste(t *testing.T, words ...string) (outputs []string) {
	t.Helper()
	for line := range strings.SplitSeq(f.c.output.String(), "\n") {
		for _, word := range words {
			if !strings.HasPrefix(line, word+" ") && !strings.HasPrefix(line, word+"=") {
				continue
			}
			printed, code, err := f.sh.run(line)
			if err != nil || code != 0 {
				t.Fatalf("%s\nexit code %d, %v:\n%s", line, code, err, printed)
			}
			outputs = append(outputs, printed)
			break
		}
	}
	return outputs
}

// A user without any knowledge of the project follows what the suite prints: signs up, becomes an admin, signs in with
// a browser. The settings are those that stock verifiers may need.
func TestTheFirstStepsThatTheSuitePrintsWork(t *testing.T) {
	t.Parallel()
	f := startWithoutDemo(t, "PURSER_KEYS_ALGORITHM=RS256")
	if !f.c.until("auth keys list") {
		t.Fatalf("it did not come up:\n%s%s", f.c.output.String(), f.c.stderr.String())
	}
	c := dial(t, suite.Endpoints{Auth: fmt.Sprintf("127.0.0.1:%d", f.port+1),
		Wallet: fmt.Sprintf("127.0.0.1:%d", f.port+2), Portfolio: fmt.Sprintf("127.0.0.1:%d", f.port+3)})

	signedUp := f.paste(t, "grpcurl", "CODE", "export")
	if len(signedUp) != 5 || !strings.Contains(signedUp[4], `"emailVerified": true`) {
		t.Errorf("signing up printed %q", signedUp)
	}
	admin := f.paste(t, "PURSER_DEV_DIR="+f.dir+" make")
	if len(admin) != 1 || !strings.Contains(admin[0], "you@example.com has the role admin") {
		t.Errorf("make admin printed %q", admin)
	}
	keys := f.paste(t, "PURSER_DEV_DIR="+f.dir+" bin/devstack")
	if len(keys) != 1 || !strings.Contains(keys[0], "RS256") || strings.Contains(keys[0], "EdDSA") {
		t.Errorf("auth keys list printed %q", keys)
	}
	users, err := c.AuthAdmin.ListUsers(asUser(t, c), &authv1.ListUsersRequest{})
	if err != nil || len(users.GetUsers()) == 0 {
		t.Errorf("the admin lists %v, %v", users, err)
	}
	f.checkDiscovery(t)
	f.checkBrowser(t, c)
	f.checkCommandsThatFail(t)
}

// asUser signs in the user that the printed commands registered.
func asUser(t *testing.T, c *demo.Clients) context.Context {
	t.Helper()
	in, err := c.Sessions.Login(t.Context(),
		&authv1.LoginRequest{Email: "you@example.com", Password: "correct horse battery"})
	if err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(t.Context(), in.GetTokens().GetAccessToken())
}

// checkDiscovery follows the printed issuer to its key set, and compares both with a token.
func (f *firstSteps) checkDiscovery(t *testing.T) {
	t.Helper()
	issuer := regexp.MustCompile(`(?m)^  issuer +(\S+)$`).FindStringSubmatch(f.c.output.String())
	if issuer == nil {
		t.Fatalf("no issuer is printed:\n%s", f.c.output.String())
	}
	var document struct {
		Issuer string
		Keys   string `json:"jwks_uri"`
	}
	getJSON(t, issuer[1]+"/.well-known/openid-configuration", &document)
	var set struct{ Keys []struct{ Alg string } }
	getJSON(t, document.Keys, &set)
	if document.Issuer != issuer[1] || len(set.Keys) == 0 || set.Keys[0].Alg != "RS256" {
		t.Errorf("discovery at %s: %+v, %+v", issuer[1], document, set)
	}
	printed, _, err := f.sh.run("echo $TOKEN")
	if err != nil {
		t.Fatal(err)
	}
	claims := authn.Claims{}
	token, _, err := jwt.NewParser().ParseUnverified(strings.TrimSpace(printed), &claims)
	if err != nil || claims.Issuer != issuer[1] || token.Method.Alg() != "RS256" {
		t.Errorf("the token is of %q, %v", claims.Issuer, err)
	}
}

func getJSON(t *testing.T, address string, into any) {
	t.Helper()
	resp, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", address, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", address, err)
	}
}

// checkCommandsThatFail asks for what cannot be done, and stops the suite.
func (f *firstSteps) checkCommandsThatFail(t *testing.T) {
	t.Helper()
	fails := func(statement, want string) {
		t.Helper()
		printed, code, err := f.sh.run("PURSER_DEV_DIR=" + f.dir + " " + statement)
		if err != nil || code == 0 || !strings.Contains(printed, want) {
			t.Errorf("%s: exit code %d, %v, without %q:\n%s", statement, code, err, want, printed)
		}
	}
	fails("make admin EMAIL=nobody@example.com",
		"no account has the address nobody@example.com: register it first")
	fails("make admin", "name the account: make admin EMAIL=you@example.com")
	fails("bin/devstack auth keys turn", `auth has no command "keys turn"`)
	fails("bin/devstack sing", "devstack auth COMMAND")
	if err := f.c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	f.c.until("")
	if err := f.c.cmd.Wait(); err != nil {
		t.Errorf("Ctrl-C: %v\n%s", err, f.c.stderr.String())
	}
	fails("make admin EMAIL=you@example.com", "no suite runs on "+f.dir+": start it with make run")
	if _, err := os.Stat(filepath.Join(f.dir, "auth-environ.json")); !os.IsNotExist(err) {
		t.Error("the configuration of auth is still on disk:", err)
	}
}

func TestSettingsWithoutEffectAreRefusedByName(t *testing.T) {
	t.Parallel()
	c := devstack(t, testkit.Folder(t), 21500, "PURSER_GRPC_ADDR=:9", "PURSER_KEYS_ALG=RS256",
		"PURSER_TOKEN_LIST=x.json")
	c.until("")
	if err := c.cmd.Wait(); err == nil {
		t.Fatalf("it started:\n%s", c.output.String())
	}
	for _, want := range []string{"PURSER_GRPC_ADDR can't be set here", "PURSER_DEV_PORT",
		"PURSER_KEYS_ALG is no setting", "PURSER_TOKEN_LIST needs PURSER_CHAIN_RPC_URLS"} {
		if !strings.Contains(c.stderr.String(), want) {
			t.Errorf("no %q in:\n%s", want, c.stderr.String())
		}
	}
}
