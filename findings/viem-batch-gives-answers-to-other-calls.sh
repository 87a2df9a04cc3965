#!/usr/bin/env bash
# Software:  viem 2.40.3 with batches over HTTP
# Expected:  calls that are sent together get their answers by the id of each, as JSON-RPC asks of a client. A call
#            without an answer fails, and no other is affected, as with ethers 6.15.0.
# Observed:  of a batch in which one answer is missing, the calls after it get the answers of those that follow them,
#            as if they were theirs: the balance of one account is told as that of another, without an error. Only the
#            last call fails.
# Cause:     the answers are sorted by their ids and then given out by their places.
# Care:      answers are missing behind proxies that cut or drop them, and on nodes that take a call for a
#            notification. Don't batch calls whose results look alike, or ask by Multicall3, where one answer has all.
# Output:    accounts have 100, 200, 300, 400; the answer to the second of four calls is missing
#            viem: 100, 300, 400, an error
#            ethers: 100, an error, 300, 400
#            viem, with all answers in another order: 100, 200, 300, 400
# Exit code: 0 while it is so; 1 when it has changed; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 80 npm install --no-audit --no-fund --silent --ignore-scripts viem@2.40.3 ethers@6.15.0 || exit 2
cat > try.mjs <<'JS'
import { createServer } from 'node:http';
import { JsonRpcProvider } from 'ethers';
import { createPublicClient, http } from 'viem';
const accounts = [1, 2, 3, 4].map((n) => '0x' + String(n).padStart(40, '0'));
let change = (answers) => answers;
const answer = ({ id, params }) => ({ jsonrpc: '2.0', id, result: '0x' + (100 * Number(params[0])).toString(16) });
const node = createServer(async (request, response) => {
  let text = '';
  for await (const part of request) text += part;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(change(JSON.parse(text).map(answer))));
});
await new Promise((ready) => node.listen(0, '127.0.0.1', ready));
const url = `http://127.0.0.1:${node.address().port}`;
const viem = createPublicClient({ transport: http(url, { batch: true, retryCount: 0, timeout: 5000 }) });
const ethers = new JsonRpcProvider(url, 1, { staticNetwork: true });
const said = async (ask) => (await Promise.allSettled(accounts.map(ask)))
  .map((one) => (one.status === 'fulfilled' ? String(one.value) : 'an error')).join(', ');
const ofViem = (address) => viem.getBalance({ address });
change = (answers) => answers.filter((_, i) => i !== 1);
const lost = await said(ofViem), lostOfEthers = await said((address) => ethers.getBalance(address));
change = (answers) => answers.reverse();
const reversed = await said(ofViem);
console.log('accounts have 100, 200, 300, 400; the answer to the second of four calls is missing');
console.log(`viem: ${lost}`);
console.log(`ethers: ${lostOfEthers}`);
console.log(`viem, with all answers in another order: ${reversed}`);
process.exit(lost === '100, 300, 400, an error' && lostOfEthers === '100, an error, 300, 400' &&
  reversed === '100, 200, 300, 400' ? 0 : 1);
JS
timeout 30 node try.mjs
