#!/usr/bin/env bash
# Installs the Postgres and Redis servers that the tests and the embedded suite
# run, where it may; otherwise says exactly what to install. With "browser" also
# Chromium, which the test of the console drives.
set -euo pipefail

have_postgres() {
  [ -n "${PURSER_PG_BIN:-}" ] && [ -x "$PURSER_PG_BIN/initdb" ] && return 0
  command -v initdb >/dev/null && return 0
  ls /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql*/bin/initdb \
    /usr/local/opt/postgresql*/bin/initdb >/dev/null 2>&1
}
have_redis() { command -v redis-server >/dev/null; }
have_browser() {
  [ "${want:-}" = browser ] || return 0
  [ -n "${PURSER_CHROMIUM:-}" ] && [ -x "$PURSER_CHROMIUM" ] && return 0
  command -v chromium chromium-browser google-chrome google-chrome-stable >/dev/null && return 0
  ls /Applications/Chromium.app /Applications/Google\ Chrome.app >/dev/null 2>&1
}
want=${1:-}

missing=()
have_postgres || missing+=(postgresql)
have_redis || missing+=(redis)
have_browser || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo -n)
  "${as_root[@]}" true 2>/dev/null || as_root=(false)
fi

if command -v apt-get >/dev/null; then
  packages=("${missing[@]/#redis/redis-server}")
  by_hand="sudo apt-get update && sudo apt-get install -y ${packages[*]}"
  if [ "${as_root[0]:-}" != false ]; then
    echo "installing ${packages[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${packages[@]}" >/dev/null
  fi
elif command -v dnf >/dev/null; then
  packages=("${missing[@]/#postgresql/postgresql-server}")
  by_hand="sudo dnf install -y ${packages[*]}"
  [ "${as_root[0]:-}" = false ] || "${as_root[@]}" dnf install -y -q "${packages[@]}"
elif command -v brew >/dev/null; then
  by_hand="brew install ${missing[*]}"
  brew install --quiet "${missing[@]}"
else
  by_hand="install PostgreSQL 14 or later and Redis 6.2 or later, with initdb and redis-server on PATH;"
  by_hand="$by_hand for the tests also Chromium"
fi

if ! have_postgres || ! have_redis || ! have_browser; then
  echo "Missing: ${missing[*]}. Install it with:" >&2
  echo "  $by_hand" >&2
  exit 1
fi
