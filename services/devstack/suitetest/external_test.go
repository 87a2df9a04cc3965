package suitetest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/devstack/progress"
	"github.com/purserhq/purser/services/devstack/suite"
)

// A server of the user's own is asked before it is ticked. What is wrong is one line: the variable, what was given
// without its secrets, what was expected, and what came.
func TestAnExternalServerIsAskedBeforeItIsTicked(t *testing.T) {
	s := shared(t)
	text := func(body string) string {
		return answering(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
	}
	list := tokenListFile(t, fmt.Sprintf(`{"tokens":[{"chainId":%d,"address":"%s"}]}`, s.Chain.ChainID(),
		s.Chain.Tokens()[0].Address))
	good := suite.External{
		Database: s.Postgres.URL("postgres"), Redis: s.Redis.URL(), Prices: s.Prices.URL(), TokenList: list,
		Chain: fmt.Sprintf("%d=%s", s.Chain.ChainID(), s.Chain.URL()),
	}
	out, err := startBacking(t, good)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"✓ chain", fmt.Sprintf("external (PURSER_CHAIN_RPC_URLS), chain id %d, block ", s.Chain.ChainID()), " old)",
		"✓ prices", "external (PURSER_PRICE_URL), prices of 2 of 2 tokens", "✓ Redis", "✓ Postgres",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	bare := good
	bare.Chain = "31337=" + withoutCode(t)
	if out, err := startBacking(t, bare); err != nil || !strings.Contains(out, "chain id 31337, block 1 (") ||
		!strings.Contains(out, " old), no Multicall3: balances are read one by one") {
		t.Errorf("a chain without Multicall3: %v\n%s", err, out)
	}
	silent := "127.0.0.1:1"
	hangs := listening(t)
	withPath := func(url string) string { return url + "/v2/hunter2secret?key=hunter2secret" }
	for name, tc := range map[string]struct {
		change func(*suite.External)
		want   []string
	}{
		"a node of another chain": {func(e *suite.External) {
			e.Chain = "1=" + s.Chain.URL()
			e.TokenList = tokenListFile(t, `{"tokens":[{"chainId":1}]}`)
		}, []string{"PURSER_CHAIN_RPC_URLS: 1=http://127.0.0.1:", "a JSON-RPC node of chain 1",
			fmt.Sprintf("the node is of chain %d, not 1", s.Chain.ChainID())}},
		"the second node of a chain": {func(e *suite.External) { e.Chain += ",31337=" + withPath("http://"+silent) },
			[]string{"PURSER_CHAIN_RPC_URLS: 31337=http://" + silent, "connection refused"}},
		"no node": {func(e *suite.External) { e.Chain = "31337=" + withPath(text("<html>hello</html>")) },
			[]string{"PURSER_CHAIN_RPC_URLS: 31337=http://127.0.0.1:", "a JSON-RPC node", `<html>hello`}},
		"a node that is slow": {func(e *suite.External) { e.Chain = "31337=" + withPath("http://"+hangs) },
			[]string{"PURSER_CHAIN_RPC_URLS: 31337=http://" + hangs, "deadline exceeded"}},
		"no chain": {func(e *suite.External) { e.Chain = "hunter2secret" },
			[]string{"PURSER_CHAIN_RPC_URLS: must read <chain id>=<value>"}},
		"no feed": {func(e *suite.External) { e.Prices = withPath(text(`{"prices":[]}`)) },
			[]string{"PURSER_PRICE_URL: http://127.0.0.1:", "DefiLlama's coins API", `no "coins"`}},
		"a feed that knows no token": {func(e *suite.External) { e.Prices = withPath(text(`{"coins":{}}`)) },
			[]string{"PURSER_PRICE_URL: ", "it has a price for none of 2 tokens, such as local:0x0000"}},
		"a feed whose prices are zero": {func(e *suite.External) {
			e.Prices = text(`{"coins":{"local:0x0000000000000000000000000000000000000000":{"price":0.0}}}`)
		}, []string{"PURSER_PRICE_URL: ", "none of 2 tokens"}},
		"a feed that refuses": {func(e *suite.External) {
			e.Prices = withPath(answering(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusForbidden)
			}))
		}, []string{"PURSER_PRICE_URL: ", "status 403"}},
		"a feed that is slow": {func(e *suite.External) { e.Prices = "http://" + hangs },
			[]string{"PURSER_PRICE_URL: http://" + hangs, "deadline exceeded"}},
		"no Redis": {func(e *suite.External) { e.Redis = "redis://:hunter2secret@" + silent + "/0" },
			[]string{"PURSER_REDIS_URL: redis://" + silent, "answers PING", "refused"}},
		"a Redis that is slow": {func(e *suite.External) { e.Redis = "redis://:hunter2secret@" + hangs + "/0" },
			[]string{"PURSER_REDIS_URL: redis://" + hangs, "timeout"}},
		"no database": {func(e *suite.External) {
			e.Database = "postgres://ann:hunter2secret@" + silent + "/postgres"
		}, []string{"PURSER_DATABASE_URL: postgres://" + silent, "may create databases", "refused"}},
		"a wrong password": {func(e *suite.External) {
			e.Database = "postgres://postgres:hunter2secret@" + strings.SplitN(s.Postgres.URL("postgres"), "@", 2)[1]
		}, []string{"PURSER_DATABASE_URL: ", "password authentication failed"}},
		"a database that is slow": {func(e *suite.External) {
			e.Database = "postgres://ann:hunter2secret@" + hangs + "/x"
		}, []string{"PURSER_DATABASE_URL: postgres://" + hangs, "deadline exceeded"}},
		"no token list": {func(e *suite.External) { e.TokenList = "/none/tokens.json" },
			[]string{"PURSER_TOKEN_LIST: /none/tokens.json", "no such file"}},
		"no second token list": {func(e *suite.External) { e.TokenList += ",/none/tokens.json" },
			[]string{"PURSER_TOKEN_LIST: /none/tokens.json", "no such file"}},
		"a list without tokens": {func(e *suite.External) {
			e.TokenList = tokenListFile(t, `{"tokens":[{"chainId":5}]}`)
		}, []string{"PURSER_TOKEN_LIST: ", "it has 1 tokens, and none of a chain of PURSER_CHAIN_RPC_URLS"}},
		"a list that is none": {func(e *suite.External) { e.TokenList = tokenListFile(t, `tokens`) },
			[]string{"PURSER_TOKEN_LIST: ", "tokenlists.org", "invalid character"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := good
			tc.change(&e)
			begun := time.Now()
			_, err := startBacking(t, e)
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %q", want, err)
				}
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("it is not one line without secrets: %q", err)
			}
			if took := time.Since(begun); took > 12*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A setting that a service refuses is told before a server is started.
func TestWrongSettingsAreToldBeforeAServerIsStarted(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		options suite.Options
		want    []string
	}{
		"settings of the services": {suite.Options{Extra: map[string][]string{
			"auth":      {"PURSER_KEYS_ALGORITHM=ES512", "PURSER_GRPC_BURST=many"},
			"wallet":    {"PURSER_SYNC_CRON=often", "PURSER_GRPC_BURST=many"},
			"portfolio": {"PURSER_SNAPSHOT_CRON=never"}}},
			[]string{"PURSER_KEYS_ALGORITHM must be one of", "PURSER_GRPC_BURST: ", "PURSER_SYNC_CRON",
				"PURSER_SNAPSHOT_CRON"}},
		"a price feed that is no URL": {suite.Options{External: suite.External{Prices: "prices.example"}},
			[]string{"PURSER_PRICE_URL"}},
		"nodes that are no URLs": {suite.Options{External: suite.External{Chain: "1=node.example",
			Prices: "http://prices.example"}}, []string{"chain 1 must be an http or https URL"}},
		"a chain without prices": {suite.Options{External: suite.External{Chain: "1=http://127.0.0.1:1"}},
			[]string{"PURSER_PRICE_URL must be set too"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			tc.options.Dir, tc.options.Out = testkit.Folder(t), progress.New(&out)
			b, err := suite.StartInfrastructure(t.Context(), tc.options)
			if err := b.Close(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			if err == nil {
				t.Fatal("they were accepted")
			}
			for _, want := range tc.want {
				if strings.Count(err.Error(), want) != 1 {
					t.Errorf("%q is not once in %q", want, err)
				}
			}
			if out.Len() > 0 {
				t.Errorf("servers were started: %s", out.String())
			}
		})
	}
}

// startBacking starts what services run on with these servers, and returns what was printed.
func startBacking(t *testing.T, e suite.External) (printed string, err error) {
	t.Helper()
	var out strings.Builder
	b, err := suite.StartInfrastructure(t.Context(),
		suite.Options{Dir: testkit.Folder(t), External: e, Out: progress.New(&out)})
	if err := b.Close(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	return out.String(), err
}

func tokenListFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// answering is the URL of a server that answers every request like this.
func answering(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL
}

// listening is the address of a server that takes connections and says nothing.
func listening(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// withoutCode is the URL of a node of chain 31337 on which no contract is deployed.
func withoutCode(t *testing.T) string {
	t.Helper()
	return answering(t, func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(body)
		result := `"0x"`
		switch {
		case strings.Contains(string(body), "eth_chainId"):
			result = `"0x7a69"`
		case strings.Contains(string(body), "eth_getBlockByNumber"):
			result = fmt.Sprintf(`{"number":"0x1","timestamp":"0x%x"}`, time.Now().Unix())
		}
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":1,"result":%s}`, result)
	})
}
