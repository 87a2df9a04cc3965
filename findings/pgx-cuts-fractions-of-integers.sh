#!/usr/bin/env bash
# Software:  github.com/jackc/pgx/v5 v5.12.0 with PostgreSQL 15
# Expected:  a float64 for a parameter of type integer or bigint is refused if it has a fraction, as pgx refuses to
#            read one into an int64 ("cannot losslessly convert"), or rounded as the server does: 1.9::bigint is 2.
# Observed:  its fraction is cut off, without an error: 1.9 is stored as 1, 0.9999999 as 0, and so in arrays. With the
#            simple protocol the same value is refused, by the server.
# Cause:     a float64 that is sent as an integer is converted as Go's int64(f) does. The way back is checked.
# Care:      0.29 * 100 is 28.999999999999996, and 28 cents are stored. A condition such as id = $1 or amount <= $1
#            finds rows of another number. What works for years fails behind a pooler that needs the simple protocol.
#            Round in Go, or send decimals as text for a numeric.
# Output:    sent as bigint: 1.9 is 1, 0.9999999 is 0, -1.9 is -1, 0.29 * 100 is 28; the server: 1.9::bigint is 2
#            with the simple protocol: 1.9 is an error, 0.9999999 is an error, -1.9 is an error, 0.29 * 100 is an error
#            as bigint[]: [1.9 2.5] is [1 2]
#            read into an int64: 1.9::float8 is an error, 2::float8 is 2
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
[ -n "$bin" ] || { echo "needs the server of PostgreSQL"; exit 2; }
dir=$(mktemp -d)
data=$(mktemp -d)
as=()
if [ "$(id -u)" = 0 ]; then chown postgres "$data" && as=(runuser -u postgres --); fi
stop() {
  cd /
  "${as[@]}" "$bin/pg_ctl" -D "$data/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$dir" "$data"
}
trap stop EXIT
"${as[@]}" "$bin/initdb" -D "$data/data" -U postgres -A trust -E UTF8 --locale=C >/dev/null || exit 2
"${as[@]}" "$bin/pg_ctl" -D "$data/data" -w -t 30 -l "$data/log" \
  -o "-c listen_addresses='' -c unix_socket_directories='$data' -c fsync=off" start >/dev/null || exit 2
cd "$dir"
cat > go.mod <<'MOD'
module example.com/finding

go 1.25

require github.com/jackc/pgx/v5 v5.12.0
MOD
cat > main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "user=postgres dbname=postgres host="+os.Args[1])
	if err != nil {
		os.Exit(2)
	}
	cents := 0.29
	cents *= 100
	sent := func(mode pgx.QueryExecMode) string {
		var out []string
		for _, v := range []struct {
			name  string
			value float64
		}{{"1.9", 1.9}, {"0.9999999", 0.9999999}, {"-1.9", -1.9}, {"0.29 * 100", cents}} {
			var got int64
			if err := conn.QueryRow(ctx, "SELECT $1::bigint", mode, v.value).Scan(&got); err != nil {
				out = append(out, v.name+" is an error")
				continue
			}
			out = append(out, fmt.Sprintf("%s is %d", v.name, got))
		}
		return strings.Join(out, ", ")
	}
	plain, simple := sent(pgx.QueryExecModeCacheStatement), sent(pgx.QueryExecModeSimpleProtocol)
	list, array := []float64{1.9, 2.5}, "an error"
	var integers []int64
	if err := conn.QueryRow(ctx, "SELECT $1::bigint[]", list).Scan(&integers); err == nil {
		array = fmt.Sprint(integers)
	}
	read := func(query string) string {
		var got int64
		if err := conn.QueryRow(ctx, query).Scan(&got); err != nil {
			return "an error"
		}
		return fmt.Sprint(got)
	}
	part, whole, server := read("SELECT 1.9::float8"), read("SELECT 2::float8"), read("SELECT 1.9::bigint")
	fmt.Printf("sent as bigint: %s; the server: 1.9::bigint is %s\n", plain, server)
	fmt.Println("with the simple protocol:", simple)
	fmt.Printf("as bigint[]: %v is %s\n", list, array)
	fmt.Printf("read into an int64: 1.9::float8 is %s, 2::float8 is %s\n", part, whole)
	if plain != "1.9 is 1, 0.9999999 is 0, -1.9 is -1, 0.29 * 100 is 28" ||
		strings.Count(simple, "an error") != 4 || array != "[1 2]" || part != "an error" || whole != "2" ||
		server != "2" {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding "$data"
