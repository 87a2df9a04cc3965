package suitetest

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

const nodePage = "docs/clients/node.md"

var snippet = regexp.MustCompile("(?s)```js\n// (\\S+\\.mjs)\n.*?```")

// nodeFolder makes a folder as docs/clients/node.md describes it: the packages of its lock file, the contracts as they
// are published, and the page's files.
func nodeFolder(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed: the snippets of %s are not tried", program, nodePage)
		}
	}
	makeGrpcurl(t)
	dir, err := nodePackages()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var nodePackages = sync.OnceValues(func() (string, error) {
	dir, err := filepath.Abs(filepath.Join(checkout, ".build", "node-client"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	page, err := os.ReadFile(filepath.Join(checkout, nodePage))
	if err != nil {
		return "", err
	}
	files := map[string][]byte{}
	for _, name := range []string{"package.json", "package-lock.json"} {
		if files[name], err = os.ReadFile(filepath.Join(checkout, "docs/clients/node", name)); err != nil {
			return "", err
		}
	}
	for _, found := range snippet.FindAllSubmatch(page, -1) {
		text := strings.TrimSuffix(strings.TrimPrefix(string(found[0]), "```js\n"), "```")
		files[string(found[1])] = []byte(text)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return "", err
		}
	}
	contracts, err := filepath.Abs(filepath.Join(checkout, "bin", "contracts"))
	if err != nil {
		return "", err
	}
	link := filepath.Join(dir, "contracts")
	if err := errors.Join(os.RemoveAll(link), os.Symlink(contracts, link)); err != nil {
		return "", err
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New("npm ci: " + err.Error() + "\n" + string(out))
	}
	return dir, nil
})

// nodeScript runs a program in the folder of the snippets and returns what it prints.
func nodeScript(t *testing.T, environ []string, script string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", "--input-type=module", "--eval", script)
	cmd.Dir, cmd.Env = nodeFolder(t), append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("node: %v\n%s", err, out)
	}
	return string(out)
}

func TestProtoLoaderReadsEveryPublishedContract(t *testing.T) {
	t.Parallel()
	out := nodeScript(t, nil, `
		import fs from 'node:fs';
		import loader from '@grpc/proto-loader';
		const files = fs.readdirSync('contracts', { recursive: true }).filter((f) => f.endsWith('.proto'));
		const load = (...names) => loader.loadSync(names, { includeDirs: ['contracts', '.'] });
		for (const file of files) load(file);
		console.log(files.length, 'files', Object.keys(load(...files)).includes('purser.wallet.v1.WalletService'));

		// The control: the way of writing rules that it does not read.
		fs.writeFileSync('list.proto', 'syntax = "proto3"; import "buf/validate/validate.proto";' +
			'message M { string s = 1 [(buf.validate.field) = {cel: [{id: "a", expression: "true"}]}]; }');
		try { load('list.proto'); console.log('lists are read'); } catch (e) { console.log(e.message); }
		fs.rmSync('list.proto');`)
	if !regexp.MustCompile(`(?m)^\d\d+ files true$`).MatchString(out) || !strings.Contains(out, "illegal value '{'") {
		t.Error(out)
	}
}

func TestTheNodeClientRepeatsOnlyWhatMayBeRepeated(t *testing.T) {
	t.Parallel()
	var (
		mu    sync.Mutex
		calls = map[string]int{}
	)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		name, _ := grpc.MethodFromServerStream(stream)
		mu.Lock()
		defer mu.Unlock()
		calls[name[strings.LastIndex(name, "/")+1:]]++
		return status.Error(codes.Unavailable, "not now")
	}))
	t.Cleanup(server.Stop)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	address := listener.Addr().String()
	out := nodeScript(t, []string{"AUTH=" + address, "WALLET=" + address, "PORTFOLIO=" + address}, `
		import { call, wallets, status } from './purser.mjs';
		for (const [method, request] of [['listWallets', {}], ['createWallet', {}], ['listWallets', { page_size: 1 }],
			['listWallets', { view: 'BASIC' }]]) {
			await call(wallets, method, request).catch((e) => console.log(method, status[e.code], e.message));
		}
		process.exit(0);`)
	for _, want := range []string{"listWallets UNAVAILABLE", "createWallet UNAVAILABLE", "has no field page_size",
		"view can't be BASIC"} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not print %q:\n%s", want, out)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if calls["ListWallets"] != 4 || calls["CreateWallet"] != 1 {
		t.Errorf("calls %v, want 4 of ListWallets, which is repeatable, and 1 of CreateWallet", calls)
	}
}

// running is a program of the page that is under way.
type running struct {
	lines *bufio.Scanner
	seen  strings.Builder
}

// runNode starts a file of the page, which ends with the test.
func runNode(t *testing.T, environ []string, file string) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	cmd := exec.CommandContext(ctx, "node", file)
	cmd.Dir, cmd.Env = nodeFolder(t), append(os.Environ(), environ...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
	})
	return &running{lines: bufio.NewScanner(out)}
}

// wait reads lines until one contains the text.
func (r *running) wait(t *testing.T, text string) {
	t.Helper()
	for r.lines.Scan() {
		r.seen.WriteString(r.lines.Text() + "\n")
		if strings.Contains(r.lines.Text(), text) {
			return
		}
	}
	t.Fatalf("it does not print %q, but\n%s", text, r.seen.String())
}

func TestTheSnippetsForNodeWork(t *testing.T) {
	t.Parallel()
	dir := nodeFolder(t)
	port := freePorts(t)
	s := start(t, func(o *suite.Options) { o.Ports = suite.PortsFrom(port) })
	r := newReader(t, s, port, nodePage, "")
	ctx := grpcclient.WithToken(t.Context(), r.token(t))
	c := dial(t, s.Endpoints)
	created, err := c.Wallets.CreateWallet(ctx,
		&walletv1.CreateWalletRequest{Account: account(s, s.Chain.Holders()[0]), Label: "cold"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Wallets.SyncWallet(ctx,
		&walletv1.SyncWalletRequest{WalletId: created.GetWallet().GetId()}); err != nil {
		t.Fatal(err)
	}

	if _, _, err := r.sh.run("cd '" + dir + "'"); err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, st := range shellBlocks(t, nodePage) {
		if strings.HasPrefix(st.text, "npm ci") || st.text == "node watch.mjs" { // done above and below
			continue
		}
		printed, code, err := r.sh.run(r.adapt(t, st))
		if err != nil || code != 0 {
			t.Fatalf("%s: %d, %v\n%s", st.where(), code, err, printed)
		}
		for line := range strings.Lines(st.expected) {
			if want := strings.TrimSpace(strings.TrimPrefix(line, "# ")); !strings.Contains(printed, want) {
				t.Errorf("%s doesn't print %q, but\n%s", st.where(), want, printed)
			}
		}
		all += printed
	}
	for _, want := range []string{`cold SYNC_STATE_SYNCED block \d+\n`, `total \d+\.\d+ USD`, `ETH \d+n 18 \d+`,
		`created [0-9a-f-]{36} eip155:31337:0x`} {
		if !regexp.MustCompile(want).MatchString(all) {
			t.Errorf("the page's commands don't print %s, but\n%s", want, all)
		}
	}

	environ := []string{"AUTH=" + s.Endpoints.Auth, "WALLET=" + s.Endpoints.Wallet,
		"PORTFOLIO=" + s.Endpoints.Portfolio, "EMAIL=" + r.email, "PASSWORD=" + r.password}
	t.Run("a call that is repeated until the service is back", func(t *testing.T) {
		if err := s.StopService("wallet"); err != nil {
			t.Fatal(err)
		}
		run := runNode(t, append(environ, "ACCOUNT="+account(s, s.Chain.Holders()[1])), "create.mjs")
		run.wait(t, "UNAVAILABLE  again in")
		if err := s.RestartService(t.Context(), "wallet"); err != nil {
			t.Fatal(err)
		}
		run.wait(t, "created ")
	})
	t.Run("a stream that is opened again", func(t *testing.T) {
		run := runNode(t, environ, "watch.mjs")
		run.wait(t, "up to date epoch 1")
		user, _ := signIn(t, c)
		if _, err := c.Sessions.Logout(user, &authv1.LogoutRequest{}); err != nil {
			t.Fatal(err)
		}
		run.wait(t, "refuse sessionId ")
		if err := s.StopService("auth"); err != nil {
			t.Fatal(err)
		}
		run.wait(t, "UNAVAILABLE")
		if err := s.RestartService(t.Context(), "auth"); err != nil {
			t.Fatal(err)
		}
		run.wait(t, "up to date epoch 1")
	})
	t.Run("a session goes on when the key of its token is revoked", func(t *testing.T) {
		file := filepath.Join(dir, "loop.mjs")
		err := os.WriteFile(file, []byte(`
			import { setTimeout as sleep } from 'node:timers/promises';
			import { Session, call, wallets } from './purser.mjs';
			const session = await Session.login(process.env.EMAIL, process.env.PASSWORD);
			for (;; await sleep(50)) {
				await call(wallets, 'listWallets', {}, { session });
				const [header] = (await session.token()).split('.');
				console.log('key', JSON.parse(Buffer.from(header, 'base64url')).kid);
			}`), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		run := runNode(t, environ, "loop.mjs")
		run.wait(t, "key ")
		revoked := strings.TrimSpace(run.seen.String()[strings.LastIndex(run.seen.String(), "key ")+len("key "):])
		if _, err := s.AuthCommand(t.Context(), "keys", "revoke", revoked); err != nil {
			t.Fatal(err)
		}
		for run.lines.Scan() {
			kid, ok := strings.CutPrefix(run.lines.Text(), "key ")
			if !ok {
				t.Fatal(run.lines.Text())
			}
			if kid != revoked {
				return
			}
		}
		t.Error("the program has ended")
	})
}
