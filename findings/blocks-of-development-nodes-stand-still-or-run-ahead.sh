#!/usr/bin/env bash
# Software:  hardhat 2.29.1 and anvil 1.7.1 (@foundry-rs/anvil), both on npm
# Expected:  blocks that are mined one after the other have times that increase, as Ethereum demands, and none is
#            later than the clock of the machine by more than some seconds, as its nodes demand.
# Observed:  anvil gives blocks of one second one time. hardhat adds a second to each: the newest of 120 blocks is two
#            minutes in the future.
# Cause:     each keeps half of the rule when blocks come faster than the clock.
# Care:      by time, blocks of anvil have no order, and "the last block at or before a moment" has several answers;
#            the head of hardhat has an age below zero, and what asks for the state of now finds an older block than
#            the newest. Order by number, take a head of the future for one of now, and don't subtract times unchecked.
# Output:    anvil: 120 blocks have 2 times, the newest is 0 s ahead of the clock
#            hardhat: 120 blocks have 120 times, the newest is 113 s ahead of the clock
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 110 npm install --no-audit --no-fund --silent --ignore-scripts @foundry-rs/anvil@1.7.1 hardhat@2.29.1 || exit 2
anvil=$(ls node_modules/@foundry-rs/anvil-*/bin/anvil 2>/dev/null | head -1)
[ -n "$anvil" ] || exit 2
echo 'module.exports = { solidity: "0.8.24" };' > hardhat.config.cjs
one=$((20000 + RANDOM % 20000))
two=$((one + 1))
"$anvil" --silent --port "$one" &
pids=$!
HARDHAT_DISABLE_TELEMETRY_PROMPT=true node node_modules/hardhat/internal/cli/bootstrap.js node --port "$two" \
  > hardhat.log 2>&1 < /dev/null &
pids="$pids $!"
cat > try.cjs <<'JS'
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
const node = async (name, port) => {
  const ask = async (method, ...params) => {
    const answer = await (await fetch(`http://127.0.0.1:${port}`, {
      method: 'POST', headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }) })).json();
    if (answer.error) throw new Error(answer.error.message);
    return answer.result;
  };
  for (let i = 0; ; i++) {
    try { await ask('eth_chainId'); return { name, ask }; } catch { if (i === 400) process.exit(2); await wait(100); }
  }
};
(async () => {
  const seen = [];
  for (const { name, ask } of [await node('anvil', process.argv[2]), await node('hardhat', process.argv[3])]) {
    const mined = 120;
    for (let i = 0; i < mined; i++) await ask('evm_mine');
    const last = Number(await ask('eth_blockNumber'));
    const times = [];
    for (let i = last - mined + 1; i <= last; i++) {
      times.push(Number((await ask('eth_getBlockByNumber', `0x${i.toString(16)}`, false)).timestamp));
    }
    const different = new Set(times).size;
    const ahead = Math.max(0, times[mined - 1] - Math.floor(Date.now() / 1000));
    console.log(`${name}: ${mined} blocks have ${different} time${different > 1 ? 's' : ''}, ` +
      `the newest is ${ahead} s ahead of the clock`);
    seen.push({ different, ahead });
  }
  const [a, h] = seen;
  process.exit(a.different < 60 && a.ahead < 5 && h.different === 120 && h.ahead > 60 ? 0 : 1);
})();
JS
timeout 100 node try.cjs "$one" "$two"
