#!/usr/bin/env bash
# Software:  PostgreSQL 15, or the newest that is installed
# Expected:  UPDATE … WHERE id IN (SELECT id … ORDER BY id LIMIT 2 FOR UPDATE SKIP LOCKED), with which workers claim
#            rows of a queue, changes at most two rows: the subquery does not depend on the row that is looked at, and
#            so is asked once.
# Observed:  it may change every row of the table. One worker then holds the whole queue, with one lease.
# Cause:     where the planner expects one row, it joins by a nested loop and runs the subquery again for each row of
#            the table. FOR UPDATE passes over rows that the statement itself has changed already, with SKIP LOCKED and
#            without, so that each time the next two come. Without a lock the subquery brings the same two again.
# Care:      a queue that is nearly empty when it is analyzed, as most are, has this plan once it fills up. Claim by
#            WITH next AS (SELECT … LIMIT 2 FOR UPDATE SKIP LOCKED) UPDATE … FROM next, or by id = ANY (ARRAY (SELECT
#            …)): both ask once.
# Output:    PostgreSQL 15: LIMIT 2 of 10 due rows: IN claims 10, WITH claims 2, ARRAY claims 2
#            IN without SKIP LOCKED claims 10, without a lock 2
#            IN after the table has been analyzed with 10 rows: 2
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
# Without autovacuum, which would analyze the table at a time of its own.
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -w -t 30 -l "$dir/log" \
  -o "-c listen_addresses='' -c unix_socket_directories='$dir' -c fsync=off -c autovacuum=off" start >/dev/null ||
  exit 2
sql() { timeout 20 psql -h "$dir" -U postgres -qtA -v ON_ERROR_STOP=1 "$@"; }
sql <<'SQL' || exit 2
CREATE TABLE jobs (id int PRIMARY KEY, state text NOT NULL DEFAULT 'due');
INSERT INTO jobs VALUES (1);
ANALYZE jobs;
INSERT INTO jobs SELECT generate_series(2, 10);
SQL
claimed() { # the number of rows that a statement changes, which is undone
  sql -c "BEGIN" -c "$1 RETURNING 'claimed'" -c "ROLLBACK" | grep -c claimed
}
update="UPDATE jobs SET state = 'taken'"
next="SELECT id FROM jobs WHERE state = 'due' ORDER BY id LIMIT 2"
skip="FOR UPDATE SKIP LOCKED"
in=$(claimed "$update WHERE id IN ($next $skip)")
with=$(claimed "WITH next AS ($next $skip) $update FROM next WHERE jobs.id = next.id")
array=$(claimed "$update WHERE id = ANY (ARRAY ($next $skip))")
waits=$(claimed "$update WHERE id IN ($next FOR UPDATE)")
plain=$(claimed "$update WHERE id IN ($next)")
sql -c "ANALYZE jobs"
known=$(claimed "$update WHERE id IN ($next $skip)")
version=$("$bin/postgres" -V | sed 's/.* \([0-9]*\)\..*/\1/')
echo "PostgreSQL $version: LIMIT 2 of 10 due rows: IN claims $in, WITH claims $with, ARRAY claims $array"
echo "IN without SKIP LOCKED claims $waits, without a lock $plain"
echo "IN after the table has been analyzed with 10 rows: $known"
[ "$in $with $array $waits $plain $known" = "10 2 2 10 2 2" ]
