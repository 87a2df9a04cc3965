#!/usr/bin/env bash
# Software:  hardhat 2.29.1 beside anvil 1.7.1 (@foundry-rs/anvil), both on npm
# Expected:  eth_call, which is no transaction, may use the gas of a block, or what the node's own cap allows: EIP-7825
#            bounds the gas of a transaction in a block, not that of a reading. More gas than a node allows is cut.
# Observed:  hardhat gives a call 16,777,216 gas, the bound of EIP-7825, though its blocks have 60,000,000. One that
#            states a single unit more is refused, as an error of the transaction. anvil takes 30,000,000.
# Cause:     the check of a transaction's gas is made of calls too.
# Care:      a batch of readings in one call (Multicall3) that fits into a block elsewhere runs out of gas there, and
#            the part that ran out looks like a reverting contract. Choose the size of a batch by gas, below 16
#            million, halve it when it fails, and don't state more gas than a transaction may have.
# Output:    anvil: a block has 30000000 gas, a call 29946876; a call with 16777217 stated: it is run
#            hardhat: a block has 60000000 gas, a call 16724092; a call with 16777217 stated: refused
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
    const data = '0x5a60005260206000f3'; // answers with the gas that is left
    const inBlock = Number(BigInt((await ask('eth_getBlockByNumber', 'latest', false)).gasLimit));
    const inCall = Number(BigInt(await ask('eth_call', { data }, 'latest')));
    const more = await ask('eth_call', { data, gas: '0x1000001' }, 'latest').then(() => 'it is run', () => 'refused');
    console.log(`${name}: a block has ${inBlock} gas, a call ${inCall}; a call with 16777217 stated: ${more}`);
    seen.push({ inBlock, inCall, more });
  }
  const [a, h] = seen;
  process.exit(a.inCall > 0x1000000 && a.more === 'it is run' && h.inBlock > 0x1000000 && h.inCall < 0x1000000 &&
    h.more === 'refused' ? 0 : 1);
})();
JS
timeout 100 node try.cjs "$one" "$two"
