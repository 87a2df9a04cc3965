#!/usr/bin/env bash
# Software:  PostgreSQL 15, or the newest that is installed
# Expected:  statement_timeout "aborts any statement that takes more than the specified amount of time", so that an
#            INSERT of a primary whose synchronous standby is away ends with it, as one that waits for a lock does.
# Observed:  it waits for as long as the standby is away. So does a COMMIT. Neither lock_timeout nor
#            idle_in_transaction_session_timeout ends it; when the client goes away the server's process stays, until
#            all connections are taken by such processes.
# Cause:     the timer is switched off before a transaction is committed, and the wait is a part of the commit
#            (finish_xact_command, SyncRepWaitForLSN).
# Care:      bound such calls by their own deadline, watch pg_stat_activity for wait_event = 'SyncRep', and have more
#            than one candidate in synchronous_standby_names.
# Output:    PostgreSQL 15: with statement_timeout = 1 s an INSERT has no answer after 8 s; its process waits for
#            SyncRep, also after the client has gone: 1
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
sql() { timeout 20 psql -h "$dir" -U postgres -tA -v ON_ERROR_STOP=1 "$@"; }
sql -c "CREATE TABLE notes (id int)" >/dev/null
# A standby is asked for and there is none, as while the only one is away.
sql -c "ALTER SYSTEM SET synchronous_standby_names = '*'" >/dev/null && sql -c "SELECT pg_reload_conf()" >/dev/null
for _ in $(seq 50); do [ "$(sql -c 'SHOW synchronous_standby_names')" = '*' ] && break; sleep 0.1; done

code=0
PGOPTIONS='-c statement_timeout=1000' timeout 8 psql -h "$dir" -U postgres -c "INSERT INTO notes VALUES (1)" \
  >/dev/null 2>&1 || code=$?
waiting=$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
version=$("$bin/postgres" -V | sed 's/.* \([0-9]*\)\..*/\1/')
[ "$code" = 124 ] && answer="has no answer after 8 s" || answer="ends with exit code $code"
echo "PostgreSQL $version: with statement_timeout = 1 s an INSERT $answer; its process waits for" \
  "SyncRep, also after the client has gone: $waiting"
[ "$code" = 124 ] && [ "$waiting" = 1 ]
