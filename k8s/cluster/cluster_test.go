package cluster_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	namespace, storesNamespace, callersNamespace = "purser", "purser-stores", "purser-callers"

	// overlayFolder is where the overlay of the tests is written, from this package.
	overlayFolder = "../../.build/cluster"
)

func services() []string { return []string{"auth", "portfolio", "wallet"} }

// needCluster skips a test that `make cluster-test` doesn't run.
func needCluster(t *testing.T) {
	t.Helper()
	if os.Getenv("PURSER_CLUSTER_TEST") == "" {
		t.Skip("this test needs a Kubernetes cluster: make cluster-test runs it")
	}
}

// kubectl runs a command and returns its output.
func kubectl(t *testing.T, input string, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t, input, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func tryKubectl(t *testing.T, input string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "kubectl", args...)
	cmd.Stdin = strings.NewReader(input)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%w: %s", err, strings.TrimSpace(failure.String()))
	}
	return string(out), nil
}

// createNamespace creates a namespace, unless it is there, and sets its labels.
func createNamespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	apply(t, "", map[string]any{"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": labels}})
}

// apply applies objects in a namespace.
func apply(t *testing.T, namespace string, objects ...map[string]any) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "List", "items": objects})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"apply", "-f", "-"}
	if namespace != "" {
		args = append(args, "-n", namespace)
	}
	kubectl(t, string(b), args...)
}

// secret is a Secret with texts.
func secret(name string, values map[string]string) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": name},
		"stringData": values}
}

// deployStores runs the Postgres and the Redis of the dev overlay in a namespace of their
// own, as servers outside of Purser's.
func deployStores(t *testing.T) {
	t.Helper()
	createNamespace(t, storesNamespace, nil)
	script, err := os.ReadFile("../overlays/dev/init.sql")
	if err != nil {
		t.Fatal(err)
	}
	apply(t, storesNamespace, secret("postgres-secrets", map[string]string{"password": "test-only"}),
		map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "postgres-init"},
			"data": map[string]string{"init.sql": string(script)}})
	kubectl(t, "", "apply", "-n", storesNamespace, "-f", "../overlays/dev/postgres.yaml", "-f",
		"../overlays/dev/redis.yaml")
	for _, s := range []string{"postgres", "redis"} {
		kubectl(t, "", "-n", storesNamespace, "rollout", "status", "statefulset/"+s, "--timeout=5m")
	}
}

func databaseURL(service, password string) string {
	return fmt.Sprintf("postgres://purser_%s:%s@postgres.%s.svc.cluster.local:5432/purser_%[1]s?sslmode=disable",
		service, password, storesNamespace)
}

// random is 32 random bytes in base64.
func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

// createSecrets creates the Secrets that the prod overlay expects, once: what they
// encrypt is in the database. It returns the certificate of the authority.
func createSecrets(t *testing.T) (ca string) {
	t.Helper()
	createNamespace(t, namespace, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	if out, err := tryKubectl(t, "", "-n", namespace, "get", "secret", "auth-tls", "-o",
		`go-template={{index .data "ca.crt" | base64decode}}`); err == nil {
		return out
	}
	redis := "redis://redis." + storesNamespace + ".svc.cluster.local:6379/0"
	serviceSecret := func() map[string]string {
		letters := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(random())
		return map[string]string{"secret": "purser_svc_" + letters}
	}
	objects := []map[string]any{
		secret("auth-secrets", map[string]string{"database-url": databaseURL("auth", "dev-only"), "redis-url": redis,
			"kek": random(), "smtp-password": "password"}),
		secret("portfolio-secrets", map[string]string{"database-url": databaseURL("portfolio", "dev-only"),
			"redis-url": redis, "webhooks-kek": random()}),
		secret("wallet-secrets", map[string]string{"database-url": databaseURL("wallet", "dev-only"),
			"redis-url": redis, "chain-rpc-urls": "1=https://node.example", "price-url": "https://prices.example"}),
		secret("portfolio-service", serviceSecret()), secret("wallet-service", serviceSecret()),
	}
	authority := newAuthority(t)
	for _, s := range services() {
		names := []string{s}
		if s == "auth" {
			names = append(names, "auth-http")
		}
		cert, key := authority.issue(t, "ns/purser/sa/"+s, names...)
		objects = append(objects, secret(s+"-tls", map[string]string{"tls.crt": cert, "tls.key": key,
			"ca.crt": authority.pem}))
	}
	apply(t, namespace, objects...)
	// The callers are what the prod overlay calls its gateway.
	cert, key := authority.issue(t, "ns/gateway/sa/gateway")
	createNamespace(t, callersNamespace, map[string]string{"purser/client": "true"})
	apply(t, callersNamespace, secret("callers-tls", map[string]string{"tls.crt": cert, "tls.key": key}))
	return authority.pem
}

// authority is a certificate authority.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster-test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, encode("CERTIFICATE", der)}
}

// issue returns a certificate with a SPIFFE id, by its path, for Services of these names, and its key.
func (a authority) issue(t *testing.T, id string, services ...string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range services {
		inNamespace := s + "." + namespace
		names = append(names, s, inNamespace, inNamespace+".svc", inNamespace+".svc.cluster.local")
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject: pkix.Name{CommonName: id}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter:    time.Now().AddDate(1, 0, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, DNSNames: names,
		URIs: []*url.URL{{Scheme: "spiffe", Host: "purser.example", Path: "/" + id}}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", private)
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// writeOverlay writes an overlay on that of prod: its images, small requests, the
// addresses of the stores, and no autoscaler, so that the tests set the replicas.
func writeOverlay(t *testing.T) {
	t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: purser\n" +
		"resources: [../../k8s/overlays/prod, stores.yaml]\nimages:\n")
	for _, s := range services() {
		fmt.Fprintf(&b, "  - {name: registry.example/purser/%s, newName: docker.io/purser/%[1]s, "+
			"newTag: cluster-test}\n", s)
	}
	b.WriteString("patches:\n  - target: {kind: HorizontalPodAutoscaler}\n    patch: |-\n" +
		"      $patch: delete\n      apiVersion: autoscaling/v2\n      kind: HorizontalPodAutoscaler\n" +
		"      metadata: {name: any}\n  - target: {kind: Deployment}\n    patch: |-\n" +
		"      - {op: replace, path: /spec/template/spec/containers/0/resources/requests/cpu, value: 10m}\n")
	stores := `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: use-stores-of-the-test}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/part-of: purser}}
  policyTypes: [Egress]
  egress:
    - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ` + storesNamespace + `}}}]
`
	for name, text := range map[string]string{"kustomization.yaml": b.String(), "stores.yaml": stores} {
		if err := os.MkdirAll(overlayFolder, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(overlayFolder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// release runs `make deploy` with the overlay of the test and returns its output.
func release(t *testing.T, env ...string) (string, error) {
	t.Helper()
	return releaseOf(t, ".build/cluster", env...)
}

// releaseOf is release of another overlay, by its path from the repository's root.
func releaseOf(t *testing.T, overlay string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "-C", "../..", "--no-print-directory", "deploy",
		"OVERLAY="+overlay)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
