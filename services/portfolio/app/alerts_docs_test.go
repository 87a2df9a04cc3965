package app_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// verifiers are programs that print what the code of docs/alerts.md says of a message: its arguments are the secret,
// id, timestamp, signature and body.
func verifiers() map[string]string {
	return map[string]string{
		"go": `package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	h := http.Header{}
	for i, name := range []string{"webhook-id", "webhook-timestamp", "webhook-signature"} {
		h.Set(name, os.Args[2+i])
	}
	fmt.Print(verified(os.Args[1], h, []byte(os.Args[5])))
}

`,
		"js": `const crypto = require('crypto');
const [secret, id, sent, signature, body] = process.argv.slice(2);
process.stdout.write(String(verified(secret, { 'webhook-id': id, 'webhook-timestamp': sent,
  'webhook-signature': signature }, Buffer.from(body))));

`,
	}
}

// The code that users copy takes what the library signs, and nothing that was changed on its way, is old, or is signed
// with another secret.
func TestTheVerifiersOfTheDocsTakeWhatWasSignedAndNothingElse(t *testing.T) {
	page, err := os.ReadFile("../../../docs/alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("s", 32)))
	other := "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("o", 32)))
	body, now := `{"type":"alert.fired","name":"ä"}`, time.Now()
	sign := func(secret string, at time.Time) string {
		hook, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		signature, err := hook.Sign("id-1", at, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	unix := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	old := now.Add(-6 * time.Minute)
	messages := map[string]struct {
		args []string // id, timestamp, signature, body
		want bool
	}{
		"as it was signed": {[]string{"id-1", unix(now), sign(secret, now), body}, true},
		"two signatures":   {[]string{"id-1", unix(now), sign(other, now) + " " + sign(secret, now), body}, true},
		"another secret":   {[]string{"id-1", unix(now), sign(other, now), body}, false},
		"another body":     {[]string{"id-1", unix(now), sign(secret, now), body + " "}, false},
		"another id":       {[]string{"id-2", unix(now), sign(secret, now), body}, false},
		"another time":     {[]string{"id-1", unix(now.Add(time.Second)), sign(secret, now), body}, false},
		"an old one":       {[]string{"id-1", unix(old), sign(secret, old), body}, false},
		"no signature":     {[]string{"id-1", unix(now), "", body}, false},
		"no time":          {[]string{"id-1", "x", sign(secret, now), body}, false},
	}
	for language, rest := range verifiers() {
		t.Run(language, func(t *testing.T) {
			code := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(page)
			if code == nil {
				t.Fatal("docs/alerts.md has no code in " + language)
			}
			file := filepath.Join(t.TempDir(), "verify."+language)
			if err := os.WriteFile(file, []byte(rest+string(code[1])), 0o600); err != nil {
				t.Fatal(err)
			}
			run := []string{"node", file}
			if language == "go" {
				program := strings.TrimSuffix(file, ".go")
				build(t, program, file)
				run = []string{program}
			}
			for name, m := range messages {
				out, err := exec.CommandContext(t.Context(), run[0],
					append(append(run[1:len(run):len(run)], secret), m.args...)...).Output()
				if err != nil || string(out) != fmt.Sprint(m.want) {
					t.Errorf("%s: %q, want %v: %v", name, out, m.want, err)
				}
			}
		})
	}
}

// build compiles a file that is in no module.
func build(t *testing.T, program, file string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, file)
	cmd.Env, cmd.Dir = append(os.Environ(), "GOWORK=off"), filepath.Dir(file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
