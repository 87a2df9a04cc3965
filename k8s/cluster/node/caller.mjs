// Calls the three services at a steady pace with @grpc/grpc-js, and prints what came of it
// once a second. The program of the folder caller runs beside it and writes its token.
import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';

const { CALLER_CA, CALLER_CERT, CALLER_DOMAIN, CALLER_KEY, CALLER_RATE, CALLER_TOKENS } = process.env;
const methods = {
  auth: '/purser.auth.v1.AccountService/GetMe',
  wallet: '/purser.wallet.v1.WalletService/ListWallets',
  portfolio: '/purser.portfolio.v1.PortfolioService/GetValuation',
};
const credentials = grpc.credentials.createSsl(readFileSync(CALLER_CA), readFileSync(CALLER_KEY),
  readFileSync(CALLER_CERT));
const options = { 'grpc.service_config': JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }) };
const raw = (message) => message; // requests are empty, and nobody reads the answers

// token returns the token of the file, undefined while there is none.
function token() {
  try {
    return readFileSync(`${CALLER_TOKENS}/node`, 'utf8');
  } catch {
    return undefined;
  }
}

function call(client, method, tally) {
  const bearer = token();
  if (!bearer) return;
  const begun = Date.now();
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${bearer}`);
  let peer = '';
  const made = client.makeUnaryRequest(method, raw, raw, Buffer.alloc(0), metadata, { deadline: begun + 10_000 },
    (error) => {
      tally.calls += 1;
      if (peer) tally.peers[peer] = (tally.peers[peer] ?? 0) + 1;
      if (!error) return;
      tally.failed += 1;
      tally.first ||= `${new Date(begun).toISOString()}, after ${Date.now() - begun} ms: ${error.message}`;
      const second = Math.floor(begun / 1000);
      if (second !== tally.lastOutage) {
        tally.lastOutage = second;
        tally.outage += 1;
      }
    });
  made.on('metadata', () => { peer = made.getPeer(); });
}

const tallies = Object.entries(methods).map(([service, method]) => {
  const client = new grpc.Client(`dns:///${service}${CALLER_DOMAIN}:9000`, credentials, options);
  const tally = { client: 'node', service, calls: 0, failed: 0, outage: 0, first: '', peers: {} };
  setInterval(() => call(client, method, tally), 1000 / Number(CALLER_RATE));
  return tally;
});
setInterval(() => tallies.forEach((tally) => console.log(JSON.stringify(tally))), 1000);
process.on('SIGTERM', () => process.exit(0));
