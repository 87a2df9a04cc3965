#!/usr/bin/env bash
# Prints the ten slowest packages of what `go test` printed, which it reads from a file or its input. Results that
# came from the cache have no time and are left out.
set -euo pipefail
rows=$(awk -F '\t' '/^(ok  |FAIL)\t/ && $3 ~ /^[0-9.]+s$/ { sub(/s$/, "", $3); print $3 "\t" $2 }' "$@" |
  sort -rn | sed -n 1,10p)
[ -z "$rows" ] || printf '\nslowest packages\n%s\n' "$(awk -F '\t' '{ printf "%8.1fs  %s\n", $1, $2 }' <<<"$rows")"
