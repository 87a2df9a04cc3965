package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/purserhq/purser/services/devstack/suite"
)

// guide is the text that says what runs where and how to try it.
type guide struct {
	suite                       *suite.Suite
	dir, email, password, token string
	console                     string
	configuredDir               string // PURSER_DEV_DIR
}

func (g guide) String() string {
	var b strings.Builder
	e := g.suite.Endpoints
	fmt.Fprintf(&b, "\nThe suite is up; Ctrl-C stops it.\n")
	for _, row := range [][2]string{
		{"auth", e.Auth + "  (key set: http://" + e.AuthHTTP + "/.well-known/jwks.json)"},
		{"issuer", g.issuer()},
		{"wallet", e.Wallet}, {"portfolio", e.Portfolio},
	} {
		fmt.Fprintf(&b, "  %-10s %s\n", row[0], row[1])
	}
	for _, p := range g.suite.Parts() {
		kind := "embedded: "
		if !p.Embedded {
			kind = ""
		}
		fmt.Fprintf(&b, "  %-10s %s%s\n", p.Name, kind, p.Address)
	}
	fmt.Fprintf(&b, "  %-10s %s (log: suite.log; once it is stopped, rm -r %s removes it)\n\n", "data", g.dir, g.dir)
	fmt.Fprintf(&b, "Console:\n\n%s\n\n", g.console)
	fmt.Fprintf(&b, "Sign in with the local provider in a browser (wallets: see docs/sign-in.md):\n\n%s\n\n",
		g.suite.HostedStart("local"))
	if g.token == "" {
		b.WriteString(g.signUp())
		b.WriteString(g.admin("you@example.com"))
		return b.String()
	}
	fmt.Fprintf(&b, "Try it (no grpcurl? `make grpcurl` builds it; then export PATH=$PWD/bin:$PATH):\n\n")
	fmt.Fprintf(&b, "export TOKEN=%s\n\n", g.token)
	auth := `-H "authorization: Bearer $TOKEN"`
	for _, c := range []string{
		"grpcurl -plaintext " + e.Wallet + " list",
		"grpcurl -plaintext " + auth + " " + e.Auth + " purser.auth.v1.AccountService/GetMe",
		"grpcurl -plaintext " + auth + ` -d '{"view":"WALLET_VIEW_WITH_BALANCES"}' ` + e.Wallet +
			" purser.wallet.v1.WalletService/ListWallets",
		"grpcurl -plaintext " + auth + " " + e.Portfolio + " purser.portfolio.v1.PortfolioService/GetValuation",
		"grpcurl -plaintext " + auth + ` -d '{"interval":"INTERVAL_HOURLY"}' ` + e.Portfolio +
			" purser.portfolio.v1.PortfolioService/GetTimeline",
	} {
		fmt.Fprintf(&b, "%s\n", c)
	}
	fmt.Fprintf(&b, "\nThe token lasts 15 minutes; for a new one sign in as %s with the password in %s:\n\n",
		g.email, filepath.Join(g.dir, "demo-password"))
	fmt.Fprintf(&b, "grpcurl -plaintext -d \"{\\\"email\\\":\\\"%s\\\",\\\"password\\\":\\\"$(cat %s)\\\"}\" %s "+
		"purser.auth.v1.SessionService/Login\n",
		g.email, filepath.Join(g.dir, "demo-password"), e.Auth)
	b.WriteString(g.admin(g.email))
	return b.String()
}

// issuer is what tokens name, with a note if nothing answers there because PURSER_ISSUER names another place.
func (g guide) issuer() string {
	if here := "http://" + g.suite.Endpoints.AuthHTTP; g.suite.Issuer() != here {
		return fmt.Sprintf("%s  (from PURSER_ISSUER; this suite answers at %s)", g.suite.Issuer(), here)
	}
	return g.suite.Issuer()
}

// signUp says how to get an account and a token, by commands to paste together.
func (g guide) signUp() string {
	call := func(data, method string) string {
		return "grpcurl -plaintext -d " + data + " " + g.suite.Endpoints.Auth + " purser.auth.v1." + method
	}
	const account = `'{"email":"you@example.com","password":"correct horse battery"}'`
	return strings.Join([]string{
		"Sign up (no grpcurl? `make grpcurl` builds it; then export PATH=$PWD/bin:$PATH):\n",
		call(account, "AccountService/Register"),
		"CODE=$(" + g.setDir() + "bin/devstack code you@example.com)  # the mailed code, which is printed here too",
		call(`"{\"code\":\"$CODE\",\"password\":\"correct horse battery\"}"`, "AccountService/VerifyEmail"),
		"export TOKEN=$(" + call(account, "SessionService/Login") + ` | sed -n 's/.*"accessToken": "\(.*\)",/\1/p')`,
		`grpcurl -plaintext -H "authorization: Bearer $TOKEN" ` + g.suite.Endpoints.Auth +
			" purser.auth.v1.AccountService/GetMe",
	}, "\n") + "\n"
}

// admin says how to become an admin, and where the other commands of auth are.
func (g guide) admin(email string) string {
	return fmt.Sprintf("\nMake an account an admin (from its next sign-in or refresh on), and list the signing "+
		"keys:\n\n%smake admin EMAIL=%s\n%sbin/devstack auth keys list\n", g.setDir(), email, g.setDir())
}

// setDir is what a command needs in front to find a data folder that the user chose.
func (g guide) setDir() string {
	if g.configuredDir == "" {
		return ""
	}
	return "PURSER_DEV_DIR=" + quote(g.configuredDir) + " "
}

// quote returns text as one word of a shell.
func quote(text string) string {
	if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
