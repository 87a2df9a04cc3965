#!/usr/bin/env bash
# Software:  anvil 1.7.1 (@foundry-rs/anvil on npm), started with --prune-history
# Expected:  the state of a block that the chain has, and that was pruned, is "not available", as geth says (missing
#            trie node); a block that is not there yet is another error.
# Observed:  both are error -32602, "invalid params", with the text "BlockOutOfRangeError: block height is H but
#            requested was N", also where N is below H. eth_getBlockByNumber still returns the block N.
# Cause:     not known: as seen from outside, it has one error for every state that it lacks.
# Care:      compare the two numbers: below the height the state is gone for good, above it the block may come. Who
#            takes the error for a block of the future asks again for ever; who takes -32602 for a mistake of the
#            caller gives up an hour that another node has.
# Output:    block 36 exists: true
#            its state: -32602 BlockOutOfRangeError: block height is 82 but requested was 36
#            of the future: -32602 BlockOutOfRangeError: block height is 82 but requested was 256
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
"$anvil" --silent --port "$port" --prune-history 5 &
pid=$!
cat > try.cjs <<'JS'
const ask = async (method, ...params) => (await (await fetch(`http://127.0.0.1:${process.argv[2]}`, {
  method: 'POST', headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }) })).json());
const started = async () => {
  for (let i = 0; i < 100; i++) {
    try { return await ask('eth_chainId'); } catch { await new Promise((r) => setTimeout(r, 100)); }
  }
  process.exit(2);
};
(async () => {
  await started();
  await ask('anvil_mine', '0x52');
  const account = '0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266';
  const block = (await ask('eth_getBlockByNumber', '0x24', false)).result !== null;
  const old = (await ask('eth_getBalance', account, '0x24')).error;
  const future = (await ask('eth_getBalance', account, '0x100')).error;
  console.log(`block 36 exists: ${block}`);
  console.log(`its state: ${old && `${old.code} ${old.message}`}`);
  console.log(`of the future: ${future && `${future.code} ${future.message}`}`);
  if (!block || !future) process.exit(2);
  process.exit(old && old.code === future.code && /BlockOutOfRange/.test(old.message) ? 0 : 1);
})();
JS
timeout 30 node try.cjs "$port"
