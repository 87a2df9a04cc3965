#!/usr/bin/env bash
# Software:  PostgreSQL 15, or the newest that is installed
# Expected:  a statement that takes more than statement_timeout is ended by the server, whatever its client does, and
#            gives back its locks and its snapshot. If not, pg_cancel_backend ends it.
# Observed:  once the client reads no more, because it is paused or waits for a slow reader of its own, the statement
#            goes on for as long as that lasts. pg_cancel_backend answers true and does nothing. The locks of its
#            transaction are kept, and other writers wait.
# Cause:     a statement that waits to send its result looks only whether its session is to end, not whether the
#            statement is: an error could not be sent either, in the middle of a row.
# Care:      neither idle_in_transaction_session_timeout nor keepalive ends it, since the session is active and its
#            peer alive. Read a page and end the transaction before anything is sent on; have pg_terminate_backend, or
#            a limit of one's own for the connection, for clients that are paused.
# Output:    PostgreSQL 15: statement_timeout 1s, after 4s: active ClientWrite
#            another session's write of a row that it has locked: lock timeout
#            pg_cancel_backend says t, a second later: active ClientWrite
#            pg_terminate_backend says t, a second later: gone
#            a reader that goes on: canceling statement due to statement timeout
# Exit code: 0 while it behaves so; 1 when it doesn't any more; 2 when it could not be tried.
set -euo pipefail
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
[ -n "$bin" ] && command -v psql >/dev/null || { echo "needs the server and the client of PostgreSQL"; exit 2; }
dir=$(mktemp -d)
pids=
as=()
if [ "$(id -u)" = 0 ]; then chown postgres "$dir" && as=(runuser -u postgres --); fi
stop() {
  for p in $pids; do kill "$p" 2>/dev/null || true; done
  "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap stop EXIT
"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust >/dev/null || exit 2
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -w -t 30 -l "$dir/log" \
  -o "-c listen_addresses='' -c unix_socket_directories='$dir' -c fsync=off" start >/dev/null || exit 2
sql() { timeout 20 psql -h "$dir" -U postgres -qtA -v ON_ERROR_STOP=1 "$@"; }
sql -c "CREATE TABLE balances AS SELECT 1 AS id, 0 AS amount" || exit 2
mkfifo "$dir/pipe"
slow() { # a client that writes what it gets to the pipe, which nobody reads
  PGAPPNAME=slow PGOPTIONS="-c statement_timeout=1s" timeout 60 psql -h "$dir" -U postgres -qtA \
    -c "BEGIN" -c "UPDATE balances SET amount = 1" \
    -c "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 20000)) TO STDOUT" > "$dir/pipe" 2> "$dir/said" &
  pids="$pids $!"
}
state() {
  local now
  now=$(sql -F ' ' -c "SELECT state, wait_event FROM pg_stat_activity WHERE application_name = 'slow'")
  echo "${now:-gone}"
}
ended() { sql -c "SELECT $1(pid) FROM pg_stat_activity WHERE application_name = 'slow'"; }
exec 3<>"$dir/pipe"
slow
sleep 4
late=$(state)
write=$(sql -c "SET lock_timeout = '500ms'" -c "UPDATE balances SET amount = 2" 2>&1 | grep -o 'lock timeout' || true)
cancel=$(ended pg_cancel_backend)
sleep 1
cancelled=$(state)
terminate=$(ended pg_terminate_backend)
sleep 1
terminated=$(state)
exec 3<&-
# The same with a reader who goes on after four seconds.
exec 3<>"$dir/pipe"
slow
sleep 4
timeout 20 cat <&3 > "$dir/read" &
pids="$pids $!"
for _ in $(seq 100); do grep -q canceling "$dir/said" && break; sleep 0.1; done
end=$(grep -o 'canceling.*' "$dir/said" || true)
version=$("$bin/postgres" -V | sed 's/.* \([0-9]*\)\..*/\1/')
echo "PostgreSQL $version: statement_timeout 1s, after 4s: $late"
echo "another session's write of a row that it has locked: ${write:-done}"
echo "pg_cancel_backend says $cancel, a second later: $cancelled"
echo "pg_terminate_backend says $terminate, a second later: $terminated"
echo "a reader that goes on: ${end:-no error}"
[ "$late" = "active ClientWrite" ] && [ "$write" = "lock timeout" ] && [ "$cancelled" = "active ClientWrite" ] &&
  [ "$terminated" = gone ] && [ "$end" = "canceling statement due to statement timeout" ]
