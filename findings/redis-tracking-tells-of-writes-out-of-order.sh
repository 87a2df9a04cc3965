#!/usr/bin/env bash
# Software:  Redis 7.0.15
# Expected:  a client that follows prefixes by CLIENT TRACKING ON BCAST hears of keys on one connection, in the order
#            in which they were written: whoever writes a key and then a marker knows, once the marker has arrived,
#            that the key has arrived before it.
# Observed:  keys that are written in one turn of the server, here by one transaction, are told sorted: by prefix, and
#            in a prefix by key. The marker that was written last arrives first.
# Cause:     the keys of one turn are collected in a tree of each prefix, and the trees are walked at its end.
# Care:      a marker, a heartbeat or a version key that has arrived tells nothing of what was written in the moment
#            before it. A cache in memory that trusts what it has until a marker's time has to allow for that moment,
#            or to wait for a second marker, which was written after the first one had arrived.
# Output:    one transaction, z:value and then a:marker: a:marker z:value
#            one transaction, k:2 and then k:1: k:1 k:2
#            two writes, the second after the answer to the first: z:value a:marker
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
{ command -v redis-server && command -v redis-cli; } > /dev/null || { echo "needs the server of Redis"; exit 2; }
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
for _ in $(seq 20); do # until a port is free
  port=$((20000 + RANDOM % 10000))
  redis-server --bind 127.0.0.1 --port $port --save '' --dir "$dir" --logfile "$dir/log" &
  pid=$!
  for _ in $(seq 100); do
    [ "$(timeout 5 redis-cli -p $port ping 2>&1 || true)" = PONG ] && break 2
    kill -0 $pid 2>/dev/null || break
    sleep 0.1
  done
done
exec 3<>"/dev/tcp/127.0.0.1/$port" 4<>"/dev/tcp/127.0.0.1/$port"
printf 'HELLO 3\r\nCLIENT TRACKING ON BCAST PREFIX a: PREFIX k: PREFIX z:\r\nECHO ready\r\n' >&3
while read -r -t 10 line <&3; do [ "${line%$'\r'}" = ready ] && break; done
told() { # the next $1 keys that the client hears of
  local keys=() line
  while [ ${#keys[@]} -lt "$1" ] && read -r -t 10 line <&3; do
    line=${line%$'\r'}
    case $line in [akz]:*) keys+=("$line") ;; esac
  done
  echo "${keys[*]}"
}
ask() { # sends a command and waits for its answer
  local line
  printf '%s\r\n' "$1" >&4
  read -r -t 10 line <&4
}
together() {
  local line
  ask MULTI && ask "SET $1 1" && ask "SET $2 1" && ask EXEC
  read -r -t 10 line <&4 && read -r -t 10 line <&4 # the answer of EXEC has three lines
}
together z:value a:marker
prefixes=$(told 2)
together k:2 k:1
keys=$(told 2)
ask 'SET z:value 2'
ask 'SET a:marker 2'
apart=$(told 2)
echo "one transaction, z:value and then a:marker: $prefixes"
echo "one transaction, k:2 and then k:1: $keys"
echo "two writes, the second after the answer to the first: $apart"
[ "$prefixes" = "a:marker z:value" ] && [ "$keys" = "k:1 k:2" ] && [ "$apart" = "z:value a:marker" ]
