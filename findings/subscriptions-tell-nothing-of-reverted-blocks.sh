#!/usr/bin/env bash
# Software:  anvil 1.7.1 (@foundry-rs/anvil) and hardhat 2.29.1, both on npm
# Expected:  who is subscribed to logs is sent those of blocks that are replaced once more, with "removed": true, as
#            go-ethereum has it, and who is subscribed to newHeads gets the blocks that replace others.
# Observed:  evm_revert sends nothing. The new heads begin again at the lower number when they are mined; the logs of
#            the blocks that are gone are never removed, and those of the new blocks come beside them.
# Cause:     the subscriptions send what is mined; evm_revert is not told to them.
# Care:      a follower that adds up logs by a subscription counts them twice after a reorg in these tests, though it
#            does what the documentation of subscriptions says, and one that ignores "removed" passes them all the
#            same. Compare the parent of each head with the block before, and take back by number what was counted.
# Output:    anvil: head 1, log 1, head 2, log 2; reverted: nothing; then head 1, head 2, log 2
#            hardhat: head 1, log 1, head 2, log 2; reverted: nothing; then head 1, head 2, log 2
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 100 npm install --no-audit --no-fund --silent --ignore-scripts @foundry-rs/anvil@1.7.1 hardhat@2.29.1 \
  ws@8.18.3 || exit 2
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
const WebSocket = require('ws');
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
const open = async (port) => {
  for (let i = 0; i < 400; i++) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`);
    const opened = await new Promise((r) => { socket.on('open', () => r(true)); socket.on('error', () => r(false)); });
    if (opened) return socket;
    await wait(100);
  }
  process.exit(2);
};
const look = async (name, port) => {
  const socket = await open(port);
  const answers = new Map();
  let id = 0, seen = [];
  socket.on('message', (text) => {
    const m = JSON.parse(text);
    if (m.id) answers.get(m.id)(m.result);
    else seen.push(m.params);
  });
  const ask = (method, ...params) => new Promise((r) => {
    answers.set(++id, r);
    socket.send(JSON.stringify({ jsonrpc: '2.0', id, method, params }));
  });
  const [from] = await ask('eth_accounts');
  const heads = await ask('eth_subscribe', 'newHeads');
  await ask('eth_subscribe', 'logs', {});
  const log = async () => { // the code of a creation, which logs nothing but its place
    const hash = await ask('eth_sendTransaction', { from, data: '0x60006000a060006000f3', gas: '0x30000' });
    while (!await ask('eth_getTransactionReceipt', hash)) await wait(5);
  };
  const told = async () => {
    await wait(1000);
    const text = seen.map(({ subscription, result }) => subscription === heads ? `head ${Number(result.number)}` :
      `log ${Number(result.blockNumber)}${result.removed ? ' removed' : ''}`).sort((a, b) =>
      a.slice(-1).localeCompare(b.slice(-1)) || a.localeCompare(b)).join(', ');
    seen = [];
    return text || 'nothing';
  };
  const snapshot = await ask('evm_snapshot');
  await log();
  await log();
  const before = await told();
  await ask('evm_revert', snapshot);
  const reverted = await told();
  await ask('evm_mine');
  await log();
  const then = await told();
  console.log(`${name}: ${before}; reverted: ${reverted}; then ${then}`);
  return before === 'head 1, log 1, head 2, log 2' && reverted === 'nothing' && then === 'head 1, head 2, log 2';
};
(async () => {
  const same = [await look('anvil', process.argv[2]), await look('hardhat', process.argv[3])];
  process.exit(same.every(Boolean) ? 0 : 1);
})();
JS
timeout 90 node try.cjs "$one" "$two"
