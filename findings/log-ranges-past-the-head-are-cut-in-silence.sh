#!/usr/bin/env bash
# Software:  anvil 1.7.1 (@foundry-rs/anvil on npm), hardhat 2.29.1
# Expected:  eth_getLogs of a range that ends after the node's newest block is refused, as geth 1.17.10 does ("block
#            range extends beyond current head block"), or the answer says up to which block it is.
# Observed:  both answer with the logs up to their newest block and without an error, as if that were the whole range.
#            They differ about a range that begins after it: anvil refuses that one, hardhat answers that there are no
#            logs.
# Cause:     the end of the range is lowered to the newest block.
# Care:      a scanner that takes the end of a range from one node and asks another one, which is some blocks behind,
#            notes the range as searched and never sees the events of its last blocks. It passes every test on a node
#            that isn't behind. Ask the same node for the last block of the range before and after its logs.
# Output:    anvil: newest block 2, logs of blocks 1 to 1000: 1 without an error, of 900 to 1000: error -32602
#            hardhat: newest block 2, logs of blocks 1 to 1000: 1 without an error, of 900 to 1000: 0 without an error
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
const said = (answer) => answer.error ? `error ${answer.error.code}` : `${answer.result.length} without an error`;
const range = (from, to) => ({ fromBlock: '0x' + from.toString(16), toBlock: '0x' + to.toString(16) });
const look = async (name, port) => {
  const ask = node(port);
  for (let i = 0; ; i++) {
    try { await ask('eth_chainId'); break; } catch { if (i === 300) process.exit(2); await wait(100); }
  }
  const [from] = (await ask('eth_accounts')).result;
  // A contract that logs nothing but an event without topics while it is made.
  const sent = await ask('eth_sendTransaction', { from, gas: '0x30000', data: '0x60006000a000' });
  if (sent.error) process.exit(2);
  await ask('evm_mine');
  const newest = Number((await ask('eth_blockNumber')).result);
  const answers = [said(await ask('eth_getLogs', range(1, 1000))), said(await ask('eth_getLogs', range(900, 1000)))];
  console.log(`${name}: newest block ${newest}, logs of blocks 1 to 1000: ${answers[0]}, ` +
    `of 900 to 1000: ${answers[1]}`);
  return answers.join('; ');
};
(async () => {
  const port = Number(process.argv[2]);
  const anvil = await look('anvil', port), hardhat = await look('hardhat', port + 1);
  process.exit(anvil === '1 without an error; error -32602' &&
    hardhat === '1 without an error; 0 without an error' ? 0 : 1);
})();
JS
timeout 60 node try.cjs "$port"
