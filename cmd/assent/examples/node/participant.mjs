// A bank that takes part in Assent's transactions: HTTP/JSON and a journal file,
// nothing but Node's standard library.
//
//   node participant.mjs --port 8082 --file bank.jsonl --account bob=100 [--secret-file secret]
//
// A branch's payload is "ACCOUNT CENTS": what is added to the account, which that
// opens, or taken from it if it is negative. GET /accounts/ACCOUNT shows what is there.
//
// Every change is a line of the journal that is fsynced before it is answered. Node
// runs one call at a time, so that what a call reads is what it changes.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { closeSync, existsSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs'
import { createServer } from 'node:http'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'

const MAX_BODY = 1 << 20
const TOLERANCE = 300 // seconds a request's clock may differ from ours

class Refusal extends Error {
  constructor(status, message) {
    super(message)
    this.status = status
  }
}

class Bank {
  accounts = new Map() // name -> {cents, held}
  branches = new Map() // xid -> {xid, domain, state, account, cents}
  seen = new Map() // domain and term -> {domain, highest, epoch}
  broken = false

  constructor(path, accounts) {
    const made = !existsSync(path)
    this.journal = openSync(path, 'a')
    if (made) syncDirectory(path)
    this.replay(path)
    for (const [name, cents] of accounts) {
      if (!this.accounts.has(name)) this.write({ open: name, cents })
    }
  }

  // A crash may leave half a line at the end: its call was never answered.
  replay(path) {
    const text = readFileSync(path, 'utf8')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    if (whole.length < text.length) {
      ftruncateSync(this.journal, Buffer.byteLength(whole))
      fsyncSync(this.journal)
    }
    for (const line of whole.split('\n')) if (line) this.apply(JSON.parse(line))
  }

  // After a write that failed nobody knows what is on the disk: nothing is answered
  // until a restart has read it.
  write(change) {
    if (this.broken) throw new Refusal(503, 'the journal failed: restart the bank')
    try {
      writeSync(this.journal, JSON.stringify(change) + '\n')
      fsyncSync(this.journal)
    } catch (e) {
      this.broken = true
      throw new Refusal(503, `write the journal: ${e.message}`)
    }
    this.apply(change)
  }

  apply({ open, cents, xid, branch, state, seen, forget }) {
    if (open !== undefined) this.accounts.set(open, { cents, held: 0 })
    if (seen) this.seen.set(`${seen.domain} ${seen.term}`, seen)
    if (branch) this.branches.set(xid, branch)
    if (state) this.move(this.branches.get(xid), state)
    for (const gone of forget ?? []) this.branches.delete(gone)
  }

  move(branch, state) {
    const taken = Math.max(0, -(branch.cents ?? 0))
    if (state === 'COMMITTED' && !this.accounts.has(branch.account)) this.accounts.set(branch.account, { cents: 0, held: 0 })
    const account = this.accounts.get(branch.account) ?? { cents: 0, held: 0 }
    if (state === 'PREPARED') account.held += taken
    if (branch.state === 'PREPARED') account.held -= taken
    if (state === 'COMMITTED') account.cents += branch.cents
    branch.state = state
  }

  // The highest transaction of each term is kept, and an older epoch refused.
  note(body) {
    const term = body.transaction_id.split('-')[0]
    const known = this.seen.get(`${body.domain} ${term}`)
    const epoch = Number(body.epoch)
    if (known && epoch < known.epoch) throw new Refusal(409, 'stale_epoch')
    const highest = known && known.highest > body.transaction_id ? known.highest : body.transaction_id
    if (known && known.epoch === epoch && known.highest === highest) return undefined
    return { domain: body.domain, term, highest, epoch }
  }

  prepare(body) {
    const seen = this.note(body)
    const known = this.branches.get(body.xid)
    if (known?.state === 'PREPARED') return { vote: 'PREPARED' }
    if (known) return { vote: 'REFUSED', reason: `the branch is ${known.state.toLowerCase()} already` }
    const parsed = /^(\S+) (-?\d+)$/.exec(payload(body))
    if (!parsed) return this.refuse(body, seen, 'the payload is not ACCOUNT CENTS')
    const account = this.accounts.get(parsed[1])
    const cents = Number(parsed[2])
    const available = account ? account.cents - account.held : 0
    if (cents < 0 && available < -cents) return this.refuse(body, seen, 'insufficient funds')
    const branch = { ...this.branch(body), account: parsed[1], cents }
    this.write({ seen, xid: body.xid, branch, state: 'PREPARED' })
    return { vote: 'PREPARED' }
  }

  branch(body) {
    return { xid: body.xid, domain: body.domain, state: '' }
  }

  refuse(body, seen, reason) {
    this.write({ seen, xid: body.xid, branch: this.branch(body), state: 'ROLLED_BACK' })
    return { vote: 'REFUSED', reason }
  }

  commit(body) {
    const seen = this.note(body)
    const known = this.branches.get(body.xid)
    if (!known) return { state: 'UNKNOWN' }
    if (known.state === 'PREPARED') this.write({ seen, xid: body.xid, state: 'COMMITTED' })
    return { state: known.state } // it has ended, so or otherwise
  }

  rollback(body) {
    const seen = this.note(body)
    const known = this.branches.get(body.xid)
    if (known?.state === 'COMMITTED') return { state: 'COMMITTED' } // the coordinator has to hear the truth
    if (!known) this.write({ seen, xid: body.xid, branch: this.branch(body), state: 'ROLLED_BACK' })
    else if (known.state === 'PREPARED') this.write({ seen, xid: body.xid, state: 'ROLLED_BACK' })
    return { state: 'ROLLED_BACK' }
  }

  prepared({ domain }) {
    const branches = [...this.branches.values()]
      .filter((b) => b.domain === domain && b.state === 'PREPARED')
      .map((b) => b.xid)
    const highest = [...this.seen.values()].filter((s) => s.domain === domain).map((s) => s.highest)
    return { branches, highest }
  }

  // Rolled back branches stay: they refuse a late prepare.
  forget({ branches }) {
    const gone = branches.filter((xid) => this.branches.get(xid)?.state === 'COMMITTED')
    if (gone.length > 0) this.write({ forget: gone })
    return {}
  }
}

function syncDirectory(path) {
  const directory = openSync(dirname(path), 'r')
  fsyncSync(directory)
  closeSync(directory)
}

function payload(body) {
  return body.payload_base64 === undefined ? body.payload ?? '' : Buffer.from(body.payload_base64, 'base64').toString()
}

// verify checks a signature of the standard-webhooks scheme.
function verify(headers, body, secret) {
  const id = headers['webhook-id'] ?? ''
  const stamp = headers['webhook-timestamp'] ?? ''
  if (!/^\d+$/.test(stamp) || Math.abs(Date.now() / 1000 - Number(stamp)) > TOLERANCE) {
    throw new Refusal(401, 'the timestamp is missing or too far from this clock: compare the two clocks')
  }
  const mac = createHmac('sha256', secret).update(`${id}.${stamp}.`).update(body).digest('base64')
  const want = Buffer.from(`v1,${mac}`)
  const matches = (given) => given.length === want.length && timingSafeEqual(given, want)
  const signatures = (headers['webhook-signature'] ?? '').split(' ').map((s) => Buffer.from(s))
  if (!signatures.some(matches)) throw new Refusal(401, 'the signature is wrong: both sides need the same secret')
}

async function read(request) {
  const chunks = []
  let size = 0
  for await (const chunk of request) {
    size += chunk.length
    if (size > MAX_BODY) throw new Refusal(413, `a body has at most ${MAX_BODY} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

async function answer(bank, secret, request) {
  const path = new URL(request.url, 'http://bank').pathname
  if (request.method === 'GET' && path.startsWith('/accounts/')) {
    const account = bank.accounts.get(path.slice('/accounts/'.length))
    if (!account) throw new Refusal(404, 'no such account')
    return account
  }
  const call = path.split('/').at(-1)
  if (request.method !== 'POST' || !['prepare', 'commit', 'rollback', 'prepared', 'forget'].includes(call)) {
    throw new Refusal(404, `no such call: ${path}`)
  }
  const body = await read(request)
  if (secret) verify(request.headers, body, secret)
  let parsed
  try {
    parsed = JSON.parse(body)
  } catch (e) {
    throw new Refusal(400, `bad request: ${e.message}`)
  }
  // The body is signed and the path is not: else a prepare that was overheard would commit.
  if (parsed?.phase !== call) throw new Refusal(400, `the body is one of ${parsed?.phase}`)
  return bank[call](parsed)
}

const { values: options } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    file: { type: 'string', default: 'bank.jsonl' },
    account: { type: 'string', multiple: true, default: [] },
    'secret-file': { type: 'string' },
  },
})
const bank = new Bank(options.file, options.account.map((a) => a.split('=')).map(([name, cents]) => [name, Number(cents)]))
const secretFile = options['secret-file']
const secret = secretFile && Buffer.from(readFileSync(secretFile, 'utf8').trim().replace(/^whsec_/, ''), 'base64')

const server = createServer(async (request, response) => {
  let status = 200
  let body
  try {
    body = await answer(bank, secret, request)
  } catch (e) {
    status = e.status ?? 500
    body = { error: e.message }
  }
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
})
server.listen(Number(options.port), '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`))
