#!/usr/bin/env bash
# Software:  hardhat 2.29.1 beside anvil 1.7.1 (@foundry-rs/anvil), both on npm
# Expected:  an eth_call without "from" is sent from the zero address, as go-ethereum has it: a contract that looks at
#            msg.sender gives every caller of a node the same answer.
# Observed:  hardhat sends it from the first of the accounts that it has keys of, which owns 10,000 ether.
# Cause:     hardhat fills in the sender of calls as it does that of transactions.
# Care:      what a contract answers may depend on who asks: whether a sender may do something, a preview for the
#            sender, the handlers of a smart account. Such a reading passes on a node for development and fails on
#            others. State "from" in every call; the zero address where nobody in particular asks.
# Output:    anvil: the sender of a call is 0x0000000000000000000000000000000000000000, with 0 ether
#            hardhat: the sender of a call is 0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266, with 10000 ether
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
  const senders = [];
  for (const { name, ask } of [await node('anvil', process.argv[2]), await node('hardhat', process.argv[3])]) {
    const returns = (opcodes) => `0x${opcodes}60005260206000f3`; // code of a creation, which answers with a word
    const sender = '0x' + (await ask('eth_call', { data: returns('33') }, 'latest')).slice(26);
    const ether = BigInt(await ask('eth_call', { data: returns('3331') }, 'latest')) / 10n ** 18n;
    console.log(`${name}: the sender of a call is ${sender}, with ${ether} ether`);
    senders.push(BigInt(sender));
  }
  process.exit(senders[0] === 0n && senders[1] !== 0n ? 0 : 1);
})();
JS
timeout 100 node try.cjs "$one" "$two"
