package k8s_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/kustomize/kyaml/yaml"
)

// certificate is what the example asks cert-manager for.
type certificate struct {
	Kind string
	Spec struct {
		SecretName string   `yaml:"secretName"`
		DNSNames   []string `yaml:"dnsNames"`
		URIs       []string `yaml:"uris"`
		Usages     []string `yaml:"usages"`
	}
}

// exampleCertificates are those of the prod overlay's example, by Secret.
func exampleCertificates(t *testing.T) map[string]certificate {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("overlays", "prod", "external-secrets.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]certificate{}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var c certificate
		if err := d.Decode(&c); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		if c.Kind == "Certificate" {
			found[c.Spec.SecretName] = c
		}
	}
}

// mutualTLSFindings returns the connections of the environments, by service, that the
// certificates don't allow.
func mutualTLSFindings(env map[string]map[string]string, of map[string]certificate) (found []string) {
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	serves := func(caller, variable, host string) {
		if c := of[strings.TrimSuffix(host, "-http")+"-tls"]; !slices.Contains(c.Spec.DNSNames, host) {
			add("%s: %s names %s, for which there is no certificate", caller, variable, host)
		}
	}
	for _, service := range services() {
		has, own := env[service], of[service+"-tls"]
		if len(own.Spec.URIs) != 1 || !slices.Contains(own.Spec.Usages, "client auth") ||
			!slices.Contains(own.Spec.Usages, "server auth") {
			add("%s: its certificate has not one URI, for servers and clients", service)
			continue
		}
		if has["PURSER_GRPC_TLS_CLIENT_CA"] == "" || strings.Contains(has["PURSER_GRPC_TLS_CLIENT_IDS"], "*") {
			add("%s takes calls of clients that are not named", service)
		}
		for _, called := range services() {
			prefix := "PURSER_" + strings.ToUpper(called) + "_"
			host, _, err := net.SplitHostPort(has[prefix+"ADDR"])
			if err != nil {
				continue
			}
			serves(service, prefix+"ADDR", host)
			if has[prefix+"TLS_CERT"] == "" || has[prefix+"TLS_KEY"] == "" {
				add("%s shows %s no certificate", service, called)
			}
			if !slices.Contains(strings.Split(env[called]["PURSER_GRPC_TLS_CLIENT_IDS"], ","), own.Spec.URIs[0]) {
				add("%s is not in the list of %s", own.Spec.URIs[0], called)
			}
		}
		if service == "auth" {
			continue
		}
		keys, err := url.Parse(has["PURSER_JWKS_URL"])
		if err != nil || keys.Scheme != "https" || has["PURSER_JWKS_TLS_CA"] == "" ||
			env["auth"]["PURSER_HTTP_TLS_CERT"] == "" {
			add("%s reads the key set without TLS", service)
			continue
		}
		serves(service, "PURSER_JWKS_URL", keys.Hostname())
	}
	return found
}

// prodEnvironments are the environments of the prod overlay's services.
func prodEnvironments(t *testing.T) map[string]map[string]string {
	t.Helper()
	r, env := render(t, "prod"), map[string]map[string]string{}
	for _, service := range services() {
		d, _ := named[*appsv1.Deployment](r, service)
		w := workload{"Deployment " + service, d, &d.Spec.Template}
		c := w.containers()[0]
		env[service] = environment(r, c, mount(t, r, mountableSecrets(t, "prod", r), w, c))
	}
	return env
}

func TestTheServicesOfProdTakeCallsOfEachOther(t *testing.T) {
	report(t, "prod", mutualTLSFindings(prodEnvironments(t), exampleCertificates(t)))
}

// TestAServiceThatWouldBeRefusedIsReported is the control of the test above.
func TestAServiceThatWouldBeRefusedIsReported(t *testing.T) {
	for name, tt := range map[string]struct {
		mutate func(env map[string]map[string]string, of map[string]certificate)
		want   string
	}{
		"an id that is not in the list": {func(env map[string]map[string]string, _ map[string]certificate) {
			env["wallet"]["PURSER_GRPC_TLS_CLIENT_IDS"] = "spiffe://purser.example/ns/gateway/sa/gateway"
		}, "sa/portfolio is not in the list of wallet"},
		"a list of all": {func(env map[string]map[string]string, _ map[string]certificate) {
			env["auth"]["PURSER_GRPC_TLS_CLIENT_IDS"] += ",spiffe://purser.example/*"
		}, "auth takes calls of clients that are not named"},
		"a client without a certificate": {func(env map[string]map[string]string, _ map[string]certificate) {
			delete(env["portfolio"], "PURSER_WALLET_TLS_KEY")
		}, "portfolio shows wallet no certificate"},
		"a key set without TLS": {func(env map[string]map[string]string, _ map[string]certificate) {
			env["wallet"]["PURSER_JWKS_URL"] = "http://auth-http/.well-known/jwks.json"
		}, "wallet reads the key set without TLS"},
		"a certificate for servers only": {func(_ map[string]map[string]string, of map[string]certificate) {
			c := of["wallet-tls"]
			c.Spec.Usages = []string{"server auth"}
			of["wallet-tls"] = c
		}, "wallet: its certificate has not one URI"},
		"a name that is missing": {func(_ map[string]map[string]string, of map[string]certificate) {
			c := of["auth-tls"]
			c.Spec.DNSNames = []string{"auth"}
			of["auth-tls"] = c
		}, "PURSER_JWKS_URL names auth-http, for which there is no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			env, of := prodEnvironments(t), exampleCertificates(t)
			tt.mutate(env, of)
			found := mutualTLSFindings(env, of)
			if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("found %q, want %q", found, tt.want)
			}
		})
	}
}
