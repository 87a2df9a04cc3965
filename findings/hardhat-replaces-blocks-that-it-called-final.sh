#!/usr/bin/env bash
# Software:  hardhat 2.29.1 and anvil 1.7.1 (@foundry-rs/anvil), both on npm
# Expected:  the block tags "safe" and "finalized" name blocks that are never replaced, on any node that answers them.
# Observed:  hardhat's newest block is safe and final as soon as it is mined, and evm_revert replaces it. anvil's are
#            32 and 64 blocks behind, and block 0 before: there, what is final says nothing of the first 64 blocks.
# Cause:     neither has a consensus; each makes the tags up.
# Care:      tests that wait for "finalized" never wait on hardhat, and wait for 64 blocks on anvil. Who takes a
#            reading of a final block for one that needs no second look is wrong after evm_revert. Don't take the tags
#            for a promise where the chain has no finality; compare hashes.
# Output:    anvil: newest block 100, safe 68, finalized 36
#            hardhat: newest block 100, safe 100, finalized 100
#            hardhat: block 101 was finalized, and has another hash after evm_revert
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
  const nodes = [await node('anvil', process.argv[2]), await node('hardhat', process.argv[3])];
  const at = async (ask, tag) => await ask('eth_getBlockByNumber', tag, false);
  let same = true;
  for (const { name, ask } of nodes) {
    for (let i = 0; i < 100; i++) await ask('evm_mine');
    const [newest, safe, final] =
      await Promise.all(['latest', 'safe', 'finalized'].map(async (t) => Number((await at(ask, t)).number)));
    console.log(`${name}: newest block ${newest}, safe ${safe}, finalized ${final}`);
    same &&= name === 'hardhat' ? safe === newest && final === newest : safe === newest - 32 && final === newest - 64;
  }
  const { ask } = nodes[1];
  const [from, to] = await ask('eth_accounts');
  const snapshot = await ask('evm_snapshot');
  await ask('eth_sendTransaction', { from, to, value: '0x1' });
  const final = await at(ask, 'finalized');
  await ask('evm_revert', snapshot);
  await ask('evm_mine');
  const replaced = (await at(ask, final.number)).hash !== final.hash;
  console.log(`hardhat: block ${Number(final.number)} was finalized, and has ` +
    `${replaced ? 'another' : 'the same'} hash after evm_revert`);
  process.exit(same && replaced ? 0 : 1);
})();
JS
timeout 100 node try.cjs "$one" "$two"
