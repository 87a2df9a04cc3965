#!/usr/bin/env bash
# Runs findings/*.sh one by one and prints a table. The exit code is 1 when a behaviour has changed or couldn't be
# tried.
set -euo pipefail
cd "$(dirname "$0")/.."
rows=() failed=0
for script in findings/*.sh; do
  name=$(basename "$script" .sh)
  printf '== %s\n' "$name"
  begun=$SECONDS rc=0
  timeout --kill-after=10 300 bash "$script" || rc=$?
  case $rc in
  0) result="as described" ;;
  1) result="CHANGED" failed=1 ;;
  *) result="not tried (exit code $rc)" failed=1 ;;
  esac
  rows+=("$(printf '%-40s %-26s %5ds' "$name" "$result" $((SECONDS - begun)))")
done
printf '\n%-40s %-26s %6s\n' finding result took
printf '%s\n' "${rows[@]}"
exit "$failed"
