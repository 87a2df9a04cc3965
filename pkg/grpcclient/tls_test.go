package grpcclient_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit/testca"
)

type config = grpcclient.Config

func TestEachMistakeInTheSettingsOfTLSIsNamed(t *testing.T) {
	ca := testca.New(t, "ours")
	cert, key := ca.Issue(t, testca.Leaf{})
	folder := testca.NewFolder(t, ca.PEM, cert, key)
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*config)
		want   []string
	}{
		"nothing":                       {func(*config) {}, nil},
		"without a certificate":         {func(c *config) { c.TLSCert, c.TLSKey = "", "" }, nil},
		"a certificate without its key": {func(c *config) { c.TLSKey = "" }, []string{"PURSER_X_TLS_KEY"}},
		"a key without its certificate": {func(c *config) { c.TLSCert = "" }, []string{"PURSER_X_TLS_CERT"}},
		"the key of another":            {func(c *config) { c.TLSKey = c.TLSCert }, []string{"PURSER_X_TLS_KEY"}},
		"an id that is none":            {func(c *config) { c.TLSServerID = "wallet" }, []string{`"wallet"`}},
		"an id with a star": {func(c *config) { c.TLSServerID = "spiffe://a/*" },
			[]string{"TLS_SERVER_ID"}},
		"an id and the system's roots": {func(c *config) { c.CAFile = "" }, []string{"TLS_SERVER_ID: needs"}},
		"an empty bundle, and no file": {func(c *config) { c.CAFile, c.TLSCert = empty, "/absent" },
			[]string{"PURSER_X_TLS_CA", "is empty", "PURSER_X_TLS_CERT", "no such file"}},
		"plain text and all the rest": {func(c *config) { c.Plaintext = true },
			[]string{"X_TLS_CA are", "X_TLS_CERT are", "X_TLS_KEY are", "X_TLS_SERVER_ID are"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := grpcclient.Config{Addr: "localhost:1", CAFile: folder.CA(), TLSCert: folder.Cert(),
				TLSKey: folder.Key(), TLSServerID: "spiffe://a/b"}
			tt.change(&cfg)
			err := cfg.Check("PURSER_X_")
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("error %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want mention of %s", err, want)
				}
			}
		})
	}
}
