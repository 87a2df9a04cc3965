package console

import (
	"cmp"
	"encoding/json"
	"strings"
)

// guide is the commands for who has no account or no wallet yet, to paste into a shell.
type guide struct {
	Register, SignIn, AddWallet, Sync string
}

// guide returns the commands for a viewer, who may be nil.
func (c *Console) guide(v *viewer) guide {
	email := "you@example.com"
	if v != nil && v != c.demo {
		email = v.email
	}
	e := c.options.Endpoints
	account := cmp.Or(c.options.ExampleAccount, "eip155:1:0x…")
	credentials := jsonArgument(map[string]string{"email": email, "password": "correct horse battery"})
	return guide{
		Register: "grpcurl -plaintext -d " + credentials + " \\\n  " + e.Auth +
			" purser.auth.v1.AccountService/Register",
		SignIn: "TOKEN=$(grpcurl -plaintext -d " + credentials + " \\\n  " + e.Auth +
			" purser.auth.v1.SessionService/Login |\n  sed -n 's/.*\"accessToken\": \"\\(.*\\)\",/\\1/p')",
		AddWallet: "WALLET=$(grpcurl -plaintext -H \"authorization: Bearer $TOKEN\" \\\n  -d " +
			jsonArgument(map[string]string{"account": account}) + " \\\n  " + e.Wallet +
			" purser.wallet.v1.WalletService/CreateWallet |\n  sed -n 's/.*\"id\": \"\\(.*\\)\",/\\1/p')",
		Sync: "grpcurl -plaintext -H \"authorization: Bearer $TOKEN\" \\\n" +
			"  -d \"{\\\"walletId\\\":\\\"$WALLET\\\"}\" \\\n  " + e.Wallet +
			" purser.wallet.v1.WalletService/SyncWallet",
	}
}

// jsonArgument encodes an object as one word of a POSIX shell, whatever its values contain.
func jsonArgument(object map[string]string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(object) // a map of strings can be encoded
	return "'" + strings.ReplaceAll(strings.TrimSpace(b.String()), "'", `'\''`) + "'"
}
