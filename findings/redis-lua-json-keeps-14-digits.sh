#!/usr/bin/env bash
# Software:  Redis 7.0.15
# Expected:  the numbers of a Lua script are doubles, so that whole numbers up to 2^53 go through cjson.decode and
#            cjson.encode as they are: times in microseconds, and amounts below nine quadrillion.
# Observed:  cjson.encode writes 14 significant digits. 1700000000123456 becomes 1.7000000001235e+15: 44 microseconds
#            later, and in a form that readers of whole numbers refuse, also where nothing is lost: 100000000000000
#            is 1e+14. A script that reads a record, sets one of its fields and writes it back changes the others.
# Cause:     both cjson and Lua's own tostring print with %.14g, and cjson allows no more than 14. A number that is
#            given to redis.call is printed with 17 digits, so that SET of the number itself is right.
# Care:      milliseconds, of 13 digits, are safe, and so tests with them pass. Keep amounts and times as strings in
#            JSON that a script writes, or replace a field's text instead of decoding it. string.format('%.0f', n) is
#            exact to 2^53.
# Output:    JSON: {"at":1700000000123456} becomes {"at":1.7000000001235e+15}
#            JSON: {"at":100000000000000} becomes {"at":1e+14}
#            JSON: {"at":1700000000123} becomes {"at":1700000000123}
#            SET of the number 1700000000123456, of tostring, of %.0f: 1700000000123456 1.7000000001235e+15 \
#            1700000000123456
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
{ command -v redis-server && command -v redis-cli; } > /dev/null || { echo "needs the server of Redis"; exit 2; }
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || { kill "$pid" 2>/dev/null; wait "$pid"; } || true; rm -rf "$dir"' EXIT
redis-server --port 0 --unixsocket "$dir/socket" --save '' --dir "$dir" --logfile "$dir/log" &
pid=$!
ask() { timeout 10 redis-cli -s "$dir/socket" "$@" 2>&1; }
for _ in $(seq 100); do [ "$(ask ping || true)" = PONG ] && break; sleep 0.1; done
[ "$(ask ping)" = PONG ] || exit 2
same() { # what is left of a record that is decoded and encoded again
  ask eval 'return cjson.encode(cjson.decode(ARGV[1]))' 0 "$1"
}
micro=$(same '{"at":1700000000123456}') round=$(same '{"at":100000000000000}') milli=$(same '{"at":1700000000123}')
stored=$(ask eval "local n = cjson.decode(ARGV[1]).at
  redis.call('SET', 'number', n)
  redis.call('SET', 'text', tostring(n))
  redis.call('SET', 'format', string.format('%.0f', n))
  return table.concat(redis.call('MGET', 'number', 'text', 'format'), ' ')" 0 '{"at":1700000000123456}')
echo "JSON: {\"at\":1700000000123456} becomes $micro"
echo "JSON: {\"at\":100000000000000} becomes $round"
echo "JSON: {\"at\":1700000000123} becomes $milli"
echo "SET of the number 1700000000123456, of tostring, of %.0f: $stored"
[ "$micro" = '{"at":1.7000000001235e+15}' ] && [ "$round" = '{"at":1e+14}' ] &&
  [ "$milli" = '{"at":1700000000123}' ] &&
  [ "$stored" = "1700000000123456 1.7000000001235e+15 1700000000123456" ]
