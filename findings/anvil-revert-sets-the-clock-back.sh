#!/usr/bin/env bash
# Software:  anvil 1.7.1 (@foundry-rs/anvil on npm)
# Expected:  after evm_revert new blocks have the times at which they are mined, as before it, so that the block that
#            replaces another is not older than that. Of two blocks the one with the later time is the newer reading.
# Observed:  the clock stands at the snapshot's: the blocks that replace others are older than those by the time since
#            the snapshot, and several have the very same time, that of the snapshot's block.
# Cause:     the clock's offset is set from the block that is reverted to, and kept.
# Care:      who orders readings of a chain by the times of blocks takes every reading after a revert for an old one,
#            and drops it, until the chain's clock has passed the time of the reverted block. Order by number, and
#            recognise another chain by its hashes; or send evm_increaseTime after a revert.
# Output:    reverted block: number 2, 5 s after the snapshot
#            its replacement: number 2, 0 s after the snapshot, 7 s before the wall clock
#            the next block: number 3, 0 s after the snapshot
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 80 npm install --no-audit --no-fund --silent --ignore-scripts @foundry-rs/anvil@1.7.1 || exit 2
anvil=$(ls node_modules/@foundry-rs/anvil-*/bin/anvil 2>/dev/null | head -1)
[ -n "$anvil" ] || exit 2
port=$((20000 + RANDOM % 20000))
"$anvil" --silent --port "$port" &
pid=$!
cat > try.cjs <<'JS'
const ask = async (method, ...params) => (await (await fetch(`http://127.0.0.1:${process.argv[2]}`, {
  method: 'POST', headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }) })).json()).result;
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
const started = async () => {
  for (let i = 0; i < 100; i++) {
    try { return await ask('eth_chainId'); } catch { await wait(100); }
  }
  process.exit(2);
};
const mined = async () => {
  await ask('evm_mine');
  const b = await ask('eth_getBlockByNumber', 'latest', false);
  return { number: Number(b.number), time: Number(b.timestamp) };
};
(async () => {
  await started();
  const first = await mined();
  const snapshot = await ask('evm_snapshot');
  await wait(5000);
  const reverted = await mined();
  await wait(2000);
  if (await ask('evm_revert', snapshot) !== true) process.exit(2);
  const replacement = await mined();
  const late = Math.round(Date.now() / 1000) - replacement.time;
  const next = await mined();
  const after = (b) => `number ${b.number}, ${b.time - first.time} s after the snapshot`;
  console.log(`reverted block: ${after(reverted)}`);
  console.log(`its replacement: ${after(replacement)}, ${late} s before the wall clock`);
  console.log(`the next block: ${after(next)}`);
  if (reverted.time - first.time < 4) process.exit(2);
  process.exit(replacement.time < reverted.time && late >= 5 ? 0 : 1);
})();
JS
timeout 30 node try.cjs "$port"
