#!/usr/bin/env bash
# Software:  PostgreSQL 15, or the newest that is installed
# Expected:  numeric is exact where the result has an end, so that a balance in wei divided by 1e18 has its 18
#            decimals, as its product with 1e-18 has. If a quotient must be cut, then at a fixed number of decimals.
# Observed:  the quotient has 20 decimals below one, 16 below ten thousand, 12 from there to a hundred million. The
#            rest is rounded off, with no error or notice, and round(…, 18) fills it with zeros. The sum of quotients
#            is not the quotient of the sum.
# Cause:     no standard states the scale of a quotient. The server takes as many decimals as make 16 significant
#            digits, about as many as a double has, counts them in groups of four, and takes none less than its
#            operands have.
# Care:      amounts with few digits are exact, and so tests with them pass. Multiply by 1e-18 instead of dividing by
#            1e18, or give the dividend as many decimals as the result needs: amount::numeric(78, 18) / 1e18.
# Output:    PostgreSQL 15: 123456789012345678 wei / 1e18 = 0.12345678901234567800
#            1234567890123456789 wei / 1e18 = 1.2345678901234568
#            12345678901234567890123 wei / 1e18 = 12345.678901234568, back in wei 12345678901234568000000
#            12345678901234567890123 wei * 1e-18 = 12345.678901234567890123, with 18 decimals / 1e18 the same: t
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
below=123456789012345678 small=1234567890123456789 large=12345678901234567890123
part=$(value "$below::numeric / 1e18")
one=$(value "$small::numeric / 1e18")
quotient=$(value "$large::numeric / 1e18")
back=$(value "trim_scale($large::numeric / 1e18 * 1e18)")
product=$(value "$large::numeric * 1e-18")
wide=$(value "$large::numeric(78, 18) / 1e18 = $large::numeric * 1e-18")
echo "PostgreSQL $version: $below wei / 1e18 = $part"
echo "$small wei / 1e18 = $one"
echo "$large wei / 1e18 = $quotient, back in wei $back"
echo "$large wei * 1e-18 = $product, with 18 decimals / 1e18 the same: $wide"
[ "$part" = 0.12345678901234567800 ] && [ "$one" = 1.2345678901234568 ] && [ "$quotient" = 12345.678901234568 ] &&
  [ "$back" != "$large" ] && [ "$product" = 12345.678901234567890123 ] && [ "$wide" = t ]
