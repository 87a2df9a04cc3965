#!/usr/bin/env bash
# Software:  PostgreSQL 15, or the newest that is installed
# Expected:  pg_snapshot_xmin(pg_current_snapshot()), with which a poller of an outbox or an event table tells which
#            rows no open transaction can still add to, depends on the transactions of its own database: no other can
#            write to the table.
# Observed:  an open transaction that has written anything in another database of the cluster keeps it back. A poller
#            of rows "below the horizon" stands still for as long as somebody else's transaction is open.
# Cause:     transaction ids are of the whole cluster, and a snapshot lists the running ones of all databases; only
#            the horizon of vacuum leaves other databases out.
# Care:      give such a poller a database server of its own, bound the transactions of all databases
#            (idle_in_transaction_session_timeout), or number rows after their commit under a lock.
# Output:    PostgreSQL 15: without it the horizon passes the row: t; with a writer in another database: f; after its
#            commit: t
# Exit code: 0 while it behaves so; 1 when it doesn't any more; 2 when it could not be tried.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
[ -n "$bin" ] && command -v psql >/dev/null || { echo "needs the server and the client of PostgreSQL"; exit 2; }
dir=$(mktemp -d)
as=()
if [ "$(id -u)" = 0 ]; then chown postgres "$dir" && as=(runuser -u postgres --); fi
stop() { "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$dir"; }
trap stop EXIT
"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust >/dev/null || exit 2
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -w -t 30 -l "$dir/log" \
  -o "-c listen_addresses='' -c unix_socket_directories='$dir' -c fsync=off" start >/dev/null || exit 2
sql() { timeout 20 psql -h "$dir" -U postgres -qtA -v ON_ERROR_STOP=1 -d "$1" -c "$2"; }
sql postgres "CREATE DATABASE ours" && sql postgres "CREATE DATABASE theirs"
sql ours "CREATE TABLE events (id int, xid xid8 DEFAULT pg_current_xact_id())"
sql theirs "CREATE TABLE notes (id int)"
passed="SELECT bool_and(xid < pg_snapshot_xmin(pg_current_snapshot())) FROM events"
sql ours "INSERT INTO events VALUES (1)"
before=$(sql ours "$passed")

mkfifo "$dir/in" "$dir/out" && chmod 666 "$dir/in" "$dir/out"
timeout 60 psql -h "$dir" -U postgres -qtA -d theirs <"$dir/in" >"$dir/out" &
exec 3>"$dir/in" 4<"$dir/out"
echo "BEGIN; INSERT INTO notes VALUES (1); SELECT 'written';" >&3
read -r -t 20 written <&4 && [ "$written" = written ] || exit 2
sql ours "INSERT INTO events VALUES (2)"
during=$(sql ours "$passed")
echo "COMMIT; SELECT 'committed';" >&3
read -r -t 20 _ <&4 || exit 2
after=$(sql ours "$passed")
exec 3>&-
wait
version=$("$bin/postgres" -V | sed 's/.* \([0-9]*\)\..*/\1/')
echo "PostgreSQL $version: without it the horizon passes the row: $before;" \
  "with a writer in another database: $during; after its commit: $after"
[ "$before$during$after" = tft ]
