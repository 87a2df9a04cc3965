#!/usr/bin/env bash
# Software:  github.com/jackc/pgx/v5 v5.12.0 with PostgreSQL 15
# Expected:  one time.Time is one instant in the database, whether it is a parameter or a part of a text or of JSON
#            that is one: the server keeps microseconds, and there is one way to get rid of the rest.
# Observed:  the parameter is the microsecond before, the text and the JSON the nearest one. Of times with nanoseconds,
#            as time.Now() has them, half are two instants, a microsecond apart, and are not equal.
# Cause:     pgx cuts the nanoseconds off before it sends a time, in each of its modes. The server rounds a text.
# Care:      rows that are written by json_to_recordset and looked up by a parameter, or the reverse, are not found,
#            and a condition such as "unless it was changed since" is false for the very writer. Truncate to
#            time.Microsecond where a time is made, before it goes either way.
# Output:    00:00:01.9999997 as a parameter: 00:00:01.999999, in each mode: true
#            in a text: 00:00:02, in JSON: 00:00:02; the parameter is equal to the JSON: false
#            of 1000 times, each a second and a nanosecond after the last, 501 are equal in both ways
#            truncated to microseconds: 1000
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
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
)

func main() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "user=postgres dbname=postgres host="+os.Args[1])
	if err != nil {
		os.Exit(2)
	}
	// ask reads one instant.
	ask := func(query string, args ...any) string {
		var at time.Time
		if err := conn.QueryRow(ctx, query, args...).Scan(&at); err != nil {
			os.Exit(2)
		}
		return at.UTC().Format("15:04:05.999999999")
	}
	asJSON := func(at time.Time) string {
		text, err := json.Marshal(map[string]time.Time{"at": at})
		if err != nil {
			os.Exit(2)
		}
		return string(text)
	}
	const parameter = "$1::timestamptz"
	at := time.Date(2026, 1, 1, 0, 0, 1, 999_999_700, time.UTC)
	param := ask("SELECT "+parameter, at)
	same := true
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec} {
		same = same && ask("SELECT "+parameter, mode, at) == param
	}
	text := ask("SELECT $1::text::timestamptz", at.Format(time.RFC3339Nano))
	record := ask("SELECT at FROM json_to_record($1) AS r (at timestamptz)", asJSON(at))
	equal := func(at time.Time) (equal bool) {
		err := conn.QueryRow(ctx, "SELECT at = $1::timestamptz FROM json_to_record($2) AS r (at timestamptz)", at,
			asJSON(at)).Scan(&equal)
		if err != nil {
			os.Exit(2)
		}
		return equal
	}
	var asIs, truncated int
	for i := range 1000 {
		now := at.Truncate(time.Second).Add(time.Duration(i) * (time.Second + time.Nanosecond))
		if equal(now) {
			asIs++
		}
		if equal(now.Truncate(time.Microsecond)) {
			truncated++
		}
	}
	one := equal(at)
	fmt.Printf("00:00:01.9999997 as a parameter: %s, in each mode: %v\n", param, same)
	fmt.Printf("in a text: %s, in JSON: %s; the parameter is equal to the JSON: %v\n", text, record, one)
	fmt.Printf("of 1000 times, each a second and a nanosecond after the last, %d are equal in both ways\n", asIs)
	fmt.Printf("truncated to microseconds: %d\n", truncated)
	if param != "00:00:01.999999" || !same || text != "00:00:02" || record != "00:00:02" || one || asIs != 501 ||
		truncated != 1000 {
		os.Exit(1)
	}
}
GO
export GOWORK=off GOFLAGS=-mod=mod
go mod tidy > /dev/null 2>&1 || exit 2
go build -o finding . || exit 2
timeout 30 ./finding "$data"
