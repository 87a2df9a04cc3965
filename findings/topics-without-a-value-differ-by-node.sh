#!/usr/bin/env bash
# Software:  anvil 1.7.1 (@foundry-rs/anvil on npm), hardhat 2.29.1
# Expected:  in the topics of eth_getLogs null and an empty list stand for any topic at their place, which has to be
#            there, as with geth 1.17.10: [Transfer, null, null, null] finds the transfers of NFTs (ERC-721), which
#            have four topics, and not those of tokens (ERC-20), which have three.
# Observed:  anvil passes over such places at the end, and also finds logs that have no topic there. Hardhat takes null
#            as geth does, but an empty list as no topic at all, and answers that there are no logs.
# Cause:     the first compares the places that have a value only; the second looks whether the list has the topic.
# Care:      on anvil a scanner of NFTs counts token transfers, and takes amounts for ids: look at the number of topics
#            of each log. Go's ethereum.FilterQuery says {} is any topic, and sends an empty list for it, null only
#            for nil: with hardhat the events are missing, without an error. Use nil.
# Output:    logs with 1, 2, 3 and 4 topics, the first of which is the same, by the number of their topics
#            anvil: [A] 1 2 3 4, [A, null] 1 2 3 4, [A, null, null, null] 1 2 3 4, [null, B] 2 3 4
#            anvil: [A, []] 1 2 3 4, [[], B] 2 3 4
#            hardhat: [A] 1 2 3 4, [A, null] 2 3 4, [A, null, null, null] 4, [null, B] 2 3 4
#            hardhat: [A, []] none, [[], B] none
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
pids=
trap 'for p in $pids; do kill "$p" 2>/dev/null || true; done; rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 100 npm install --no-audit --no-fund --silent --ignore-scripts @foundry-rs/anvil@1.7.1 hardhat@2.29.1 || exit 2
anvil=$(ls node_modules/@foundry-rs/anvil-*/bin/anvil 2>/dev/null | head -1)
[ -n "$anvil" ] || exit 2
port=$((20000 + RANDOM % 20000))
"$anvil" --silent --port "$port" &
pids=$!
echo 'module.exports = { solidity: "0.8.26" };' > hardhat.config.js
HARDHAT_DISABLE_TELEMETRY_PROMPT=true node node_modules/hardhat/internal/cli/cli.js node --port $((port + 1)) \
  > hardhat.log 2>&1 < /dev/null &
pids="$pids $!"
cat > try.cjs <<'JS'
const wait = (ms) => new Promise((r) => setTimeout(r, ms));
const node = (port) => async (method, ...params) => (await (await fetch(`http://127.0.0.1:${port}`, {
  method: 'POST', headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }) })).json());
const byte = (n) => n.toString(16).padStart(2, '0');
const topic = (n) => '0x' + n.toString(16).padStart(64, '0');
const [A, B] = [topic(1), topic(2)];
const filters = [[['[A]', [A]], ['[A, null]', [A, null]], ['[A, null, null, null]', [A, null, null, null]],
  ['[null, B]', [null, B]]], [['[A, []]', [A, []]], ['[[], B]', [[], B]]]];
const look = async (name, port) => {
  const ask = node(port);
  for (let i = 0; ; i++) {
    try { await ask('eth_chainId'); break; } catch { if (i === 300) process.exit(2); await wait(100); }
  }
  const [from] = (await ask('eth_accounts')).result;
  for (const n of [1, 2, 3, 4]) { // a contract that logs nothing but an event with topics 1 to n while it is made
    const topics = [4, 3, 2, 1].slice(4 - n).map((t) => '60' + byte(t)).join('');
    const sent = await ask('eth_sendTransaction', { from, gas: '0x30000', data: `0x${topics}60006000a${n}00` });
    await ask('evm_mine');
    const receipt = sent.result && (await ask('eth_getTransactionReceipt', sent.result)).result;
    if (receipt?.logs.length !== 1) process.exit(2);
  }
  const found = async (topics) => {
    const { result, error } = await ask('eth_getLogs', { fromBlock: '0x0', toBlock: 'latest', topics });
    return error ? `error ${error.code}` : result.map((log) => log.topics.length).join(' ') || 'none';
  };
  const lines = [];
  for (const some of filters) {
    const line = [];
    for (const [text, topics] of some) line.push(`${text} ${await found(topics)}`);
    lines.push(line.join(', '));
    console.log(`${name}: ${line.join(', ')}`);
  }
  return lines.join('; ');
};
(async () => {
  console.log('logs with 1, 2, 3 and 4 topics, the first of which is the same, by the number of their topics');
  const port = Number(process.argv[2]);
  const anvil = await look('anvil', port), hardhat = await look('hardhat', port + 1);
  process.exit(anvil === '[A] 1 2 3 4, [A, null] 1 2 3 4, [A, null, null, null] 1 2 3 4, [null, B] 2 3 4; ' +
    '[A, []] 1 2 3 4, [[], B] 2 3 4' &&
    hardhat === '[A] 1 2 3 4, [A, null] 2 3 4, [A, null, null, null] 4, [null, B] 2 3 4; ' +
    '[A, []] none, [[], B] none' ? 0 : 1);
})();
JS
timeout 60 node try.cjs "$port"
