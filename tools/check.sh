#!/usr/bin/env bash
# Checks packages while they are worked on: formatting, vet, the linters, and their tests with the race detector.
#
#   tools/check.sh ./pkg/lock ./services/wallet/...
#
# GOLANGCI_LINT names the linter (bin/tools/golangci-lint otherwise; without that file the linters are left out).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  echo "usage: make check PKG=./pkg/lock (several may be named, and ./pkg/... is all under it)" >&2
  exit 2
fi
root=$PWD
lint=${GOLANGCI_LINT:-$root/bin/tools/golangci-lint}

for package in "$@"; do
  package=./${package#./}
  dir=${package%/...}
  dir=${dir%/}
  [ -d "$dir" ] || { echo "$dir is no folder of this checkout" >&2; exit 2; }
  module=$dir
  until [ -f "$module/go.mod" ]; do
    [ "$module" != . ] || { echo "$dir is in no module" >&2; exit 2; }
    module=$(dirname "$module")
  done
  inside=.${dir#"$module"}
  case $package in */...) inside=$inside/... ;; esac

  echo "== $package"
  if [ "${package%/...}" = "$package" ]; then
    files=$(find "$dir" -maxdepth 1 -name '*.go')
  else
    files=$(find "$dir" -name '*.go' -not -path '*/gen/*')
  fi
  unformatted=$(printf '%s\n' "$files" | xargs -r gofmt -l)
  [ -z "$unformatted" ] || { printf 'gofmt -w these files:\n%s\n' "$unformatted" >&2; exit 1; }
  (
    cd "$module"
    go vet "$inside"
    if [ -x "$lint" ]; then
      "$lint" run --allow-parallel-runners --config "$root/.golangci.yaml" "$inside"
    else
      echo "make tools builds the linters; they are left out" >&2
    fi
    read -ra race <<<"${RACE:--race}"
    go test "${race[@]}" -timeout 11m "$inside"
  )
done
