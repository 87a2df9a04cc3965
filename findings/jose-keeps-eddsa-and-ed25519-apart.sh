#!/usr/bin/env bash
# Software:  jose 6.1.3 (npm) and github.com/golang-jwt/jwt/v5 v5.3.0
# Expected:  "EdDSA" (RFC 8037) and "Ed25519" (RFC 9864) in the header of a token are the same signature by the same
#            kind of key, and a verifier that knows both takes either, by the key whose id the token names.
# Observed:  jose takes the one that the key in the set has as its "alg", and with the other says that the set has no
#            such key, though id, kind and curve fit, and both names are verified with a key that has no "alg".
#            golang-jwt knows only the older name, and refuses a token with the newer one.
# Cause:     a key is selected by comparing its "alg" with that of the token as texts.
# Care:      who signs can't go from one name to the other by changing the tokens: a key set that says "EdDSA" has the
#            tokens of the new name refused. Publish keys without "alg", or another key under another id for the other
#            name; and don't issue the newer one while there are verifiers in Go.
# Output:    jose: a key for EdDSA: token with EdDSA taken, token with Ed25519 ERR_JWKS_NO_MATCHING_KEY
#            jose: a key for Ed25519: token with EdDSA ERR_JWKS_NO_MATCHING_KEY, token with Ed25519 taken
#            jose: a key for any: token with EdDSA taken, token with Ed25519 taken
#            golang-jwt: token with EdDSA taken
#            golang-jwt: token with Ed25519: token is unverifiable: signing method (alg) is unavailable
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 60 npm install --no-audit --no-fund --silent --ignore-scripts jose@6.1.3 || exit 2
cat > try.mjs <<'JS'
import { writeFileSync } from 'node:fs';
import { createLocalJWKSet, exportJWK, generateKeyPair, jwtVerify, SignJWT } from 'jose';
const { publicKey, privateKey } = await generateKeyPair('EdDSA', { extractable: true });
const key = await exportJWK(publicKey);
const names = ['EdDSA', 'Ed25519'];
const tokens = await Promise.all(names.map((alg) =>
  new SignJWT({}).setProtectedHeader({ alg, kid: 'one' }).setExpirationTime('1h').sign(privateKey)));
let same = true;
for (const alg of [...names, undefined]) {
  const set = createLocalJWKSet({ keys: [{ ...key, kid: 'one', ...(alg && { alg }) }] });
  const said = await Promise.all(tokens.map((t) => jwtVerify(t, set).then(() => 'taken', (e) => e.code)));
  console.log(`jose: a key for ${alg ?? 'any'}: ` + names.map((n, i) => `token with ${n} ${said[i]}`).join(', '));
  same &&= said.every((s, i) => s === (!alg || alg === names[i] ? 'taken' : 'ERR_JWKS_NO_MATCHING_KEY'));
}
writeFileSync('tokens.txt', [key.x, ...tokens].join('\n'));
process.exit(same ? 0 : 1);
JS
timeout 30 node try.mjs
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require github.com/golang-jwt/jwt/v5 v5.3.0
MOD
cat > main.go <<'GO'
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

func main() {
	text, err := os.ReadFile("tokens.txt")
	if err != nil {
		panic(err)
	}
	lines := strings.Split(string(text), "\n")
	key, err := base64.RawURLEncoding.DecodeString(lines[0])
	if err != nil {
		panic(err)
	}
	var failures [2]error
	for i, name := range []string{"EdDSA", "Ed25519"} {
		_, failures[i] = jwt.Parse(lines[i+1], func(*jwt.Token) (any, error) { return ed25519.PublicKey(key), nil })
		if failures[i] == nil {
			fmt.Printf("golang-jwt: token with %s taken\n", name)
		} else {
			fmt.Printf("golang-jwt: token with %s: %v\n", name, failures[i])
		}
	}
	if failures[0] != nil || !errors.Is(failures[1], jwt.ErrTokenUnverifiable) {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding
