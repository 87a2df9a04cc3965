package chain

import "testing"

func TestAProviderIsTheRegisteredDomainAlone(t *testing.T) {
	for host, want := range map[string]string{
		"eth-mainnet.g.alchemy.com":    "alchemy.com",
		"s3cret-key-here.quiknode.pro": "quiknode.pro",
		"node.example.co.uk":           "example.co.uk",
		"s3cret-key-here.ngrok.app":    "ngrok.app",
		"s3cret.eu.ngrok.app":          "ngrok.app",
		"s3cret.workers.dev":           "workers.dev",
		"s3cret.fly.dev":               "fly.dev",
		"s3cret.s3.amazonaws.com":      "amazonaws.com",
		"geth.purser.internal":         "purser.internal",
		"127.0.0.1":                    "",
		"2001:db8::1":                  "",
		"localhost":                    "",
		"":                             "",
		"com":                          "",
	} {
		if got := providerOf(host); got != want {
			t.Errorf("providerOf(%q) = %q, want %q", host, got, want)
		}
	}
}
