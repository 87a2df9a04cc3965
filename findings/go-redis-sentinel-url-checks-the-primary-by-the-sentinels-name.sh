#!/usr/bin/env bash
# Software:  go-redis v9.23.0 (github.com/redis/go-redis/v9), ParseFailoverURL and NewFailoverClient
# Expected:  rediss://user:password@sentinel:26379/0?master_name=m connects to the primary as user, and checks its
#            certificate by the primary's own host, as every other client of Sentinel does.
# Observed:  the primary's certificate is checked by the name of the first Sentinel, so that a primary with a valid
#            certificate of its own is refused; and user and password are sent to the Sentinels only.
# Cause:     setupFailoverConn sets TLSConfig.ServerName to the URL's host, and one TLSConfig is for all connections;
#            it reads the user info into SentinelUsername and SentinelPassword.
# Care:      after ParseFailoverURL set TLSConfig.ServerName to "", so that each connection is checked by the host it
#            dials, and move the user info, or give username and password as query parameters.
# Output:    as parsed: tls: failed to verify certificate: x509: certificate is valid for 127.0.0.2, not 127.0.0.1;
#            with ServerName "" and the user moved: PONG
# Exit code: 0 while it behaves so; 1 when it doesn't any more; 2 when it could not be tried.
set -euo pipefail
for tool in go openssl redis-server; do command -v "$tool" >/dev/null || { echo "needs $tool"; exit 2; }; done
dir=$(mktemp -d)
pids=()
stop() { [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true; wait || true; rm -rf "$dir"; }
trap stop EXIT
cd "$dir"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 1 -subj /CN=ca 2>/dev/null
for ip in 127.0.0.1 127.0.0.2; do # the Sentinel's and the primary's, each with a certificate of its own
  openssl req -newkey rsa:2048 -nodes -keyout "$ip.key" -out "$ip.csr" -subj "/CN=$ip" 2>/dev/null
  openssl x509 -req -in "$ip.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -out "$ip.pem" \
    -extfile <(echo "subjectAltName=IP:$ip") 2>/dev/null
done
tls() { printf 'bind %s\nport 0\ntls-port %s\ntls-cert-file %s.pem\ntls-key-file %s.key\n' "$1" "$2" "$1" "$1"
  printf 'tls-ca-cert-file ca.pem\ntls-auth-clients no\ntls-replication yes\nprotected-mode no\n'; }
{ tls 127.0.0.2 27379; echo 'requirepass secret'; } >primary.conf
{ tls 127.0.0.1 27380; printf 'sentinel monitor m 127.0.0.2 27379 1\nsentinel auth-pass m secret\n'; } >sentinel.conf
redis-server primary.conf >primary.log 2>&1 & pids+=($!)
redis-server sentinel.conf --sentinel >sentinel.log 2>&1 & pids+=($!)
mkdir try && cd try
cat >main.go <<'GO'
package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func ask(change func(*redis.FailoverOptions)) string {
	o, err := redis.ParseFailoverURL("rediss://:secret@127.0.0.1:27380/0?master_name=m&dialer_retries=1")
	if err != nil {
		return err.Error()
	}
	pem, _ := os.ReadFile("../ca.pem")
	o.TLSConfig.RootCAs = x509.NewCertPool()
	o.TLSConfig.RootCAs.AppendCertsFromPEM(pem)
	change(o)
	c := redis.NewFailoverClient(o)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if answer, err := c.Ping(ctx).Result(); err == nil {
		return answer
	} else {
		return err.Error()
	}
}

func main() {
	redis.SetLogger(quiet{})
	// A Sentinel without a password refuses one: user info alone is tried without it.
	parsed := ask(func(o *redis.FailoverOptions) { o.Password, o.SentinelPassword = o.SentinelPassword, "" })
	mended := ask(func(o *redis.FailoverOptions) {
		o.Password, o.SentinelPassword = o.SentinelPassword, ""
		o.TLSConfig.ServerName = ""
	})
	fmt.Printf("as parsed: %s;\nwith ServerName \"\" and the user moved: %s\n", parsed, mended)
	switch {
	case mended != "PONG":
		os.Exit(2)
	case !strings.Contains(parsed, "certificate is valid for 127.0.0.2, not 127.0.0.1"):
		os.Exit(1)
	}
}

type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
GO
cat >go.mod <<'MOD'
module try

go 1.24

require github.com/redis/go-redis/v9 v9.23.0
MOD
export GOWORK=off GOFLAGS=-mod=mod
timeout 60 go build -o try . >build.log 2>&1 || { tail -3 build.log; exit 2; }
for _ in $(seq 50); do
  redis-cli --tls --cacert ../ca.pem -h 127.0.0.1 -p 27380 sentinel get-master-addr-by-name m >/dev/null 2>&1 && break
  sleep 0.1
done
timeout 30 ./try && rc=0 || rc=$?
exit "$rc"
