// Verifies one token a line with the module that the argument names, and answers each with ok or an error.
import { createInterface } from 'node:readline'

const { verify } = await import(process.argv[2])
for await (const token of createInterface({ input: process.stdin })) {
  try {
    const claims = await verify(token)
    console.log(claims.sub ? 'ok' : 'no subject')
  } catch (error) {
    console.log(`${error.name}: ${error.message}`.replaceAll('\n', ' '))
  }
}
