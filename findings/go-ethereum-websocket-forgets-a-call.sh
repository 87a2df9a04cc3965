#!/usr/bin/env bash
# Software:  github.com/ethereum/go-ethereum v1.17.10, package rpc, over WebSocket
# Expected:  when the connection ends, every call that waits for its answer fails at once.
# Observed:  a call that was just sent waits until its context ends, for ever without a deadline, in some of the tries.
# Cause:     rpc/client.go, dispatch: the error of the reader and the end of the write (reqSent) are two cases of one
#            select. When the first is taken first, conn.close(err, lastOp) spares the call as one that is yet to be
#            written, and nothing ends it later.
# Care:      give each call a deadline; to fail sooner, watch the connection through the dialer's NetDialContext.
# Output:    of the calls whose connection ended 59 failed at once, and 1 waited for their contexts (1s)
# Exit code: 0 while some calls wait; 1 when none does any more.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require (
	github.com/ethereum/go-ethereum v1.17.10
	github.com/gorilla/websocket v1.4.2
)
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
	"github.com/gorilla/websocket"
)

const patience = time.Second

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		_, _, _ = c.ReadMessage() // the call has come
		_ = c.Close()
	}))
	defer server.Close()
	ended, waited := 0, 0
	for end := time.Now().Add(time.Minute); waited < 5 && time.Now().Before(end); {
		client, err := rpc.Dial("ws" + strings.TrimPrefix(server.URL, "http"))
		if err != nil {
			panic(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		var id string
		err = client.CallContext(ctx, &id, "eth_chainId")
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			waited++
		case err != nil:
			ended++
		}
		cancel()
		client.Close()
	}
	fmt.Printf("of the calls whose connection ended %d failed at once, and %d waited for their contexts (%v)\n", ended,
		waited, patience)
	if waited == 0 {
		fmt.Println("changed: every call fails at once")
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
go build -trimpath -o finding .
timeout 110 ./finding
