// Finds for how long the libraries accept a key that is not in the key set any more, each with its default settings
// and on a clock that is set ahead minute by minute. The arguments are the issuer and the id of the key. It prints a
// line when it has read the key, and goes on when it reads a line.
import { createInterface } from 'node:readline'
import { createRemoteJWKSet } from 'jose'
import { JwksClient } from 'jwks-rsa'
import * as client from 'openid-client'

const [issuer, kid, alg] = process.argv.slice(2)
let ahead = 0 // milliseconds
const now = Date.now, monotonic = performance.now.bind(performance)
Date.now = () => now() + ahead
performance.now = () => monotonic() + ahead

const found = {}
for (const algorithm of ['oidc', 'oauth2']) { // /.well-known/openid-configuration, …/oauth-authorization-server
  const config = await client.discovery(new URL(issuer), 'any', undefined, client.None(),
    { algorithm, execute: [client.allowInsecureRequests] })
  found[algorithm] = config.serverMetadata().jwks_uri
}
const jose = createRemoteJWKSet(new URL(found.oidc))
const rsa = new JwksClient({ jwksUri: found.oauth2 })
const uses = { jose: () => jose({ kid, alg }), 'jwks-rsa': () => rsa.getSigningKey(kid) }
for (const use of Object.values(uses)) {
  await use()
}
console.log('read')
await createInterface({ input: process.stdin })[Symbol.asyncIterator]().next()
const minutes = {}
for (let minute = 1; minute <= 60; minute++) {
  ahead = minute * 60_000 - 30_000 // half a minute before it is over
  for (const [name, use] of Object.entries(uses)) {
    await use().then(() => { minutes[name] = minute }, () => {})
  }
}
console.log(JSON.stringify(minutes))
process.exit()
