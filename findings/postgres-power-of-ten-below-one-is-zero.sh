#!/usr/bin/env bash
# Software:  PostgreSQL 15, or the newest that is installed
# Expected:  10::numeric ^ -18 is 0.000000000000000001, as numeric has room for it and 1e-18 is exact. An amount in
#            base units times 10::numeric ^ -decimals is the amount in whole tokens.
# Observed:  it is zero, and so is every amount that is multiplied by it, with no error or notice. A power of ten below
#            1e-16 is zero; above that it has fewer digits the smaller it is: 1.00000015 ^ -150000000 has seven.
# Cause:     the result of a whole exponent has as many decimals as its base, and at least 16, whatever its size. The
#            server takes 16 significant digits for other exponents and for quotients. Version 16 does so here too;
#            older ones were left as they are, lest results of queries change.
# Care:      tests with tokens of 6 or 8 decimals pass: only those with more, as most have, are worth nothing. Write
#            ('1e-' || decimals)::numeric, and multiply by that.
# Output:    PostgreSQL 15: 10::numeric ^ -18 = 0.0000000000000000, 1e-18 = 0.000000000000000001
#            5e18 base units of 18 decimals are 0.00, of 6 decimals 5000000000000.00
#            5e18 base units times ('1e-' || 18)::numeric: 5.00
#            1.00000015 ^ -150000000 = 0.0000000001691901, with another exponent 0.0000000001691900777694998
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
value() { timeout 20 psql -h "$dir" -U postgres -qtA -v ON_ERROR_STOP=1 -c "SELECT $1"; }
version=$("$bin/postgres" -V | sed 's/.* \([0-9]*\)\..*/\1/')
power=$(value "10::numeric ^ -18")
exact=$(value "1e-18")
tokens() { value "round(5e18::numeric * $1, 2)"; }
eighteen=$(tokens "10::numeric ^ -18")
six=$(tokens "10::numeric ^ -6")
cared=$(tokens "('1e-' || 18)::numeric")
base=1.00000015 exponent=-150000000
few=$(value "$base::numeric ^ $exponent")
more=$(value "$base::numeric ^ ($exponent + 1e-16)")
echo "PostgreSQL $version: 10::numeric ^ -18 = $power, 1e-18 = $exact"
echo "5e18 base units of 18 decimals are $eighteen, of 6 decimals $six"
echo "5e18 base units times ('1e-' || 18)::numeric: $cared"
echo "$base ^ $exponent = $few, with another exponent $more"
[ "$power" = 0.0000000000000000 ] && [ "$exact" = 0.000000000000000001 ] && [ "$eighteen" = 0.00 ] &&
  [ "$six" = 5000000000000.00 ] && [ "$cared" = 5.00 ] && [ ${#few} -lt ${#more} ]
