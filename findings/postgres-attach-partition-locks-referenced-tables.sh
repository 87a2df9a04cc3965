#!/usr/bin/env bash
# Software:  PostgreSQL 15, or the newest that is installed
# Expected:  ALTER TABLE … ATTACH PARTITION is documented to lock the parent (SHARE UPDATE EXCLUSIVE), the partition
#            and the default partition. The tables that the parent's foreign keys refer to go on, above all when the
#            partition is empty: a job that makes next month's partition disturbs nobody.
# Observed:  it takes SHARE ROW EXCLUSIVE on each table that a foreign key refers to, which waits for every open
#            transaction that wrote to it, and holds up all later writes of it. A transaction that writes to that table
#            and then to the parent deadlocks with a job that has locked the parent before.
# Cause:     the parent's foreign keys are cloned for the partition as ALTER TABLE … ADD FOREIGN KEY would make them.
# Care:      lock the referenced tables first, in the order in which writers do, with a lock_timeout.
# Output:    PostgreSQL 15: ATTACH PARTITION of an empty table holds on the referenced table: ShareRowExclusiveLock
#            beside a transaction that has inserted one row there it waits: canceling statement due to lock timeout
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
sql() { timeout 20 psql -h "$dir" -U postgres -qtA -v ON_ERROR_STOP=1 "$@"; }
sql <<'SQL' || exit 2
CREATE TABLE tokens (id int PRIMARY KEY);
CREATE TABLE history (month int NOT NULL, token int NOT NULL REFERENCES tokens (id)) PARTITION BY LIST (month);
CREATE TABLE january (LIKE history);
CREATE TABLE february (LIKE history);
SQL
version=$("$bin/postgres" -V | sed 's/.* \([0-9]*\)\..*/\1/')
mode=$(sql -c "BEGIN" -c "ALTER TABLE history ATTACH PARTITION january FOR VALUES IN (1)" -c "
  SELECT string_agg(mode, ' ' ORDER BY mode) FROM pg_locks
  WHERE relation = 'tokens'::regclass AND mode NOT IN ('AccessShareLock', 'RowShareLock')")
echo "PostgreSQL $version: ATTACH PARTITION of an empty table holds on the referenced table: ${mode:-nothing}"

# Another session has inserted a row there, and not committed yet. It reads its statements from a pipe.
mkfifo "$dir/in"
psql -h "$dir" -U postgres -qtA <"$dir/in" >"$dir/out" &
exec 3>"$dir/in"
echo "BEGIN; INSERT INTO tokens VALUES (1); SELECT 'inserted';" >&3
for _ in $(seq 100); do grep -q inserted "$dir/out" && break; sleep 0.1; done
said=$(sql -c "SET lock_timeout = '1s'" \
  -c "ALTER TABLE history ATTACH PARTITION february FOR VALUES IN (2)" 2>&1 || true)
echo "COMMIT;" >&3
exec 3>&-
wait
echo "beside a transaction that has inserted one row there it waits: $(sed 's/^ERROR: *//' <<<"${said:-no}" | head -1)"
[ "$mode" = ShareRowExclusiveLock ] && grep -q 'lock timeout' <<<"$said"
