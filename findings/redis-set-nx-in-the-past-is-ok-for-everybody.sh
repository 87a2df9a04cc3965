#!/usr/bin/env bash
# Software:  Redis 7.0.15
# Expected:  SET with NX answers OK to one client, whose value the key then has, and nil to all others until the key is
#            gone. A time of expiry that can't be is an error, as 0 and -1 are with PX and EX.
# Observed:  with PXAT or EXAT and a time that has passed, every client gets OK, one after the other, and there is no
#            key.
# Cause:     the key is stored and deleted as expired at once; the answer tells of the storing.
# Care:      a lock that is taken until a moment that the client worked out ("SET lock token NX PXAT deadline") is held
#            by everybody at once when the clock of the server is ahead, or the command waited longer than it should.
#            Take locks by PX, and check what is left of the time after the answer.
# Output:    SET NX PXAT, a second ago: first OK, second OK, keys 0
#            SET NX PXAT, in a minute: first OK, second nil, keys 1
#            SET NX PX 0: an error
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
{ command -v redis-server && command -v redis-cli; } > /dev/null || { echo "needs the server of Redis"; exit 2; }
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
redis-server --port 0 --unixsocket "$dir/socket" --save '' --dir "$dir" --logfile "$dir/log" &
pid=$!
ask() { timeout 10 redis-cli -s "$dir/socket" "$@" 2>&1; }
for _ in $(seq 100); do [ "$(ask ping || true)" = PONG ] && break; sleep 0.1; done
now=$(date +%s%3N)
told() { # the answers of two clients, and whether there is a key
  ask del lock > /dev/null
  local first second
  first=$(ask set lock one nx pxat "$1") second=$(ask set lock two nx pxat "$1")
  echo "first ${first:-nil}, second ${second:-nil}, keys $(ask exists lock)"
}
past=$(told $((now - 1000))) later=$(told $((now + 60000)))
zero=$(ask set other one nx px 0)
echo "SET NX PXAT, a second ago: $past"
echo "SET NX PXAT, in a minute: $later"
[[ $zero == ERR* ]] && echo "SET NX PX 0: an error"
[ "$past" = "first OK, second OK, keys 0" ] && [ "$later" = "first OK, second nil, keys 1" ] && [[ $zero == ERR* ]]
