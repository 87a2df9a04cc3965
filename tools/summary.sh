#!/usr/bin/env bash
# Prints of what `go test` printed, which it reads from a file or its input: the ten slowest packages, and then what
# the failed tests printed, which is hard to find among the rest. Results that came from the cache have no time and are
# left out.
set -euo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cat "$@" >"$log"
rows=$(awk -F '\t' '/^(ok  |FAIL)\t/ && $3 ~ /^[0-9.]+s$/ { sub(/s$/, "", $3); print $3 "\t" $2 }' "$log" |
  sort -rn | sed -n 1,10p)
[ -z "$rows" ] || printf '\nslowest packages\n%s\n' "$(awk -F '\t' '{ printf "%8.1fs  %s\n", $1, $2 }' <<<"$rows")"
# A failed test's lines are indented below its name; a panic and a data race end with their package.
failed=$(awk '/^(panic:|fatal error:|WARNING: DATA RACE|\*\*\* Test killed)/ { whole = 1 }
  /^ *--- FAIL/ { on = 1; print; next }
  /^(=====|=== |--- |FAIL|PASS|ok  |\?   )/ { if (/^FAIL\t/) print; on = whole = 0; next }
  whole || (on && /^ /)' "$log" | sed -n 1,200p)
[ -z "$failed" ] || printf '\nfailed\n%s\n' "$failed"
