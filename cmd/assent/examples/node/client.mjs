// Moves money between two participants in one transaction, over gRPC with Node's
// standard library: messages as JSON (application/grpc+json) need no generated code.
//
//   node client.mjs --server http://127.0.0.1:7379 bank_a "ann -30" bank_b "bob 30"
//
// The exit code says what became of it: 0 committed, 7 rolled back, 8 not known yet
// (ask again with the same request id), 1 anything else.

import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const OK = 0
const ABORTED = 10
const UNAVAILABLE = 14

class Status extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

// A message is preceded by a byte that says whether it is compressed, and its length
// in four.
function frame(message) {
  const body = Buffer.from(JSON.stringify(message))
  const head = Buffer.alloc(5)
  head.writeUInt32BE(body.length, 1)
  return Buffer.concat([head, body])
}

function unframe(data) {
  if (data.length < 5 || data[0] !== 0 || data.length !== 5 + data.readUInt32BE(1)) {
    throw new Status(UNAVAILABLE, 'the answer was cut off')
  }
  return JSON.parse(data.subarray(5))
}

// call makes one unary call.
function call(session, method, request, token) {
  return new Promise((resolve, reject) => {
    const headers = {
      ':method': 'POST',
      ':path': `/assent.v1.TransactionService/${method}`,
      'content-type': 'application/grpc+json',
      'grpc-timeout': '30S',
      te: 'trailers',
    }
    if (token) headers.authorization = `Bearer ${token}`
    const stream = session.request(headers)
    const chunks = []
    let status
    const note = (received) => {
      if (received['grpc-status'] !== undefined) {
        status = new Status(Number(received['grpc-status']), decodeURIComponent(received['grpc-message'] ?? ''))
      }
    }
    stream.on('response', note)
    stream.on('trailers', note)
    stream.on('data', (chunk) => chunks.push(chunk))
    stream.on('error', (e) => reject(new Status(UNAVAILABLE, e.message)))
    stream.on('close', () => {
      if (status?.code !== OK) return reject(status ?? new Status(UNAVAILABLE, 'no status'))
      try {
        resolve(unframe(Buffer.concat(chunks)))
      } catch (e) {
        reject(e)
      }
    })
    stream.end(frame(request))
  })
}

// submit begins, enlists and commits. The request id makes it safe to ask again.
async function submit(server, token, enlistments, attempts = 10) {
  const request = { name: 'transfer', requestId: randomUUID(), enlistments }
  for (let attempt = 0; attempt < attempts; attempt++) {
    const session = connect(server)
    session.on('error', () => {}) // the calls tell
    try {
      return await call(session, 'Submit', request, token)
    } catch (e) {
      // After "aborted" the work may be done again, in a transaction of its own; here
      // the user decides on that.
      if (e.code !== UNAVAILABLE) throw e
    } finally {
      session.close()
    }
    await pause(Math.min(2000, 50 * 2 ** attempt))
  }
  throw new Status(UNAVAILABLE, `no answer: ask again with the request id ${request.requestId}`)
}

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: { server: { type: 'string', default: 'http://127.0.0.1:7379' }, 'token-file': { type: 'string' } },
})
const enlistments = []
for (let i = 0; i + 1 < positionals.length; i += 2) enlistments.push({ participant: positionals[i], text: positionals[i + 1] })
const token = options['token-file'] && readFileSync(options['token-file'], 'utf8').trim()
try {
  const { transactionId, state } = await submit(options.server, token, enlistments)
  // STATE_COMMITTING: it is decided, and some bank is still to be told.
  console.log(transactionId, state)
} catch (e) {
  console.error(`${e.code}: ${e.message}`)
  process.exitCode = e.code === ABORTED ? 7 : e.code === UNAVAILABLE ? 8 : 1
}
