#!/usr/bin/env bash
# Applies the migrations of a service to a Postgres of its own, takes all of them back, and applies them again.
#
#   tools/migrations.sh wallet
set -euo pipefail
cd "$(dirname "$0")/.."
service=${1:-}
if [ ! -d "services/$service/migrations" ]; then
  echo "usage: make migrations SERVICE=auth|wallet|portfolio" >&2
  exit 2
fi

bin=${PURSER_PG_BIN:-}
[ -n "$bin" ] || bin=$(ls -d /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin 2>/dev/null | tail -1 || true)
[ -n "$bin" ] || bin=$(dirname "$(command -v initdb)")
dir=$(mktemp -d)
as=()
if [ "$(id -u)" -eq 0 ]; then # Postgres does not run as root
  as=(runuser -u postgres --)
  chown postgres "$dir"
fi
trap '"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
port=$((20000 + RANDOM % 20000))
(
  cd /
  "${as[@]}" "$bin/initdb" -D "$dir/data" -U purser -A trust >/dev/null
  "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -w -t 30 -l "$dir/log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off" start >/dev/null
) || { cat "$dir/log" >&2; exit 1; }

go build -trimpath -o "$dir/program" "./services/$service/cmd/$service"
# What the configuration requires; only the database is used.
migrate() {
  env PURSER_DATABASE_URL="postgres://purser@127.0.0.1:$port/postgres?sslmode=disable" \
    PURSER_REDIS_URL=redis://127.0.0.1:1 PURSER_ISSUER=http://auth.example PURSER_GRPC_PLAINTEXT=true \
    PURSER_KEK="$(head -c 32 /dev/zero | base64)" PURSER_PRICE_URL=http://127.0.0.1:1 \
    PURSER_WALLET_ADDR=127.0.0.1:1 PURSER_WALLET_PLAINTEXT=true PURSER_LOG_LEVEL=ERROR \
    "$dir/program" migrate "$1"
}
echo "up:    $(migrate up)"
for _ in $(seq 200); do
  state=$(migrate down)
  echo "down:  $state"
  case $state in "schema 0 "*) break ;; esac
done
state=$(migrate up)
echo "again: $state"
case $state in *" 0 pending") ;; *) exit 1 ;; esac
