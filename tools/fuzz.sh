#!/usr/bin/env bash
# Runs every fuzz target of the checkout for a time each, one after the other, and lists what it found.
#
#   tools/fuzz.sh 60s                        all targets
#   tools/fuzz.sh 10s ./pkg ./services       those below some folders
#
# An input that fails is in testdata/fuzz of its package then: it becomes a test case by committing it.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-60s}
shift || true
folders=("${@:-.}")
mkdir -p .build
failed=0 count=0
printf '%-56s %-28s %12s %s\n' PACKAGE TARGET EXECUTIONS RESULT
while IFS=: read -r file target; do
  package=./$(dirname "${file#./}")
  log=.build/fuzz-$(echo "$package-$target" | tr -c 'A-Za-z0-9\n' -).log
  result=ok
  # Within the package's module, as each has its own.
  (cd "$package" && go test -trimpath -run '^$' -fuzz "^$target\$" -fuzztime "$time" .) > "$log" 2>&1 || {
    result="FAILED, see $log"
    failed=$((failed + 1))
  }
  executions=$(grep -o 'execs: [0-9]*' "$log" | tail -1 | cut -d' ' -f2 || true)
  count=$((count + 1))
  printf '%-56s %-28s %12s %s\n' "$package" "$target" "${executions:-0}" "$result"
done < <(grep -rEo --include='*_test.go' --exclude-dir=.build --exclude-dir=node_modules --exclude-dir=.git \
  '^func Fuzz[A-Za-z0-9_]*\(f \*testing\.F\)' "${folders[@]}" |
  sed -E 's/^([^:]*):func ([A-Za-z0-9_]*).*/\1:\2/' | sort)
echo "$count targets for $time each, $failed failed"
[ "$count" -gt 0 ] || { echo "no fuzz target was found" >&2; exit 1; }
[ "$failed" -eq 0 ]
