#!/usr/bin/env python3
"""A bank that takes part in Assent's transactions: HTTP/JSON and SQLite, nothing but
Python's standard library.

    python3 participant.py --port 8081 --file bank.db [--secret-file secret]

A branch's payload is "ACCOUNT CENTS": what is added to the account, which that opens, or
taken from it if it is negative. GET /accounts/ACCOUNT shows what is there.

What the contract asks of a participant, and where it is kept here:
  * prepare is durable before it is answered: SQLite with synchronous=FULL
  * each call may come again, and also while another one runs: one write transaction
    for each, which reads the branch's state first
  * a rollback may come first, or without a prepare: it leaves a row that refuses a
    later prepare
  * a refused branch has changed nothing, and refuses again
"""

import argparse
import base64
import hashlib
import hmac
import json
import sqlite3
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCHEMA = """
CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, cents INTEGER NOT NULL, held INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS branch (
    xid TEXT PRIMARY KEY, domain TEXT NOT NULL, state TEXT NOT NULL, account TEXT, cents INTEGER);
CREATE TABLE IF NOT EXISTS seen (domain TEXT, term TEXT, highest TEXT, epoch INTEGER, PRIMARY KEY (domain, term));
"""

MAX_BODY = 1 << 20
TOLERANCE = 300  # seconds a request's clock may differ from ours


class Refusal(Exception):
    """An answer that is not a 200."""

    def __init__(self, status, error):
        super().__init__(error)
        self.status = status


class Bank:
    """The branches and accounts in one SQLite file. Every method is one transaction."""

    def __init__(self, path, accounts):
        self.path = path
        with self.transaction() as db:
            db.executescript(SCHEMA)
        with self.transaction() as db:
            for name, cents in accounts:
                db.execute("INSERT OR IGNORE INTO account (name, cents) VALUES (?, ?)", (name, cents))

    def transaction(self):
        return Transaction(self.path)

    def call(self, phase, body):
        with self.transaction() as db:
            self.note(db, body)
            return getattr(self, phase)(db, body)

    def note(self, db, body):
        """Keeps the highest transaction of each term, and refuses an older epoch."""
        domain, tx, epoch = body["domain"], body["transaction_id"], int(body["epoch"])
        term, unique = tx.split("-", 1)
        row = db.execute("SELECT highest, epoch FROM seen WHERE domain = ? AND term = ?", (domain, term)).fetchone()
        highest, newest = row or (tx, epoch)
        if epoch < newest:
            raise Refusal(409, "stale_epoch")
        if unique > highest.split("-", 1)[1]:
            highest = tx
        db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", (domain, term, highest, epoch))

    @staticmethod
    def state(db, xid):
        row = db.execute("SELECT state FROM branch WHERE xid = ?", (xid,)).fetchone()
        return row[0] if row else None

    @staticmethod
    def put(db, body, state, account=None, cents=None):
        db.execute("INSERT INTO branch VALUES (?, ?, ?, ?, ?)", (body["xid"], body["domain"], state, account, cents))

    def prepare(self, db, body):
        state = self.state(db, body["xid"])
        if state == "PREPARED":
            return {"vote": "PREPARED"}
        if state is not None:
            return {"vote": "REFUSED", "reason": "the branch is %s already" % state.lower()}
        try:
            account, cents = payload(body).split(" ")
            cents = int(cents)
        except ValueError:
            return self.refuse(db, body, "the payload is not ACCOUNT CENTS")
        row = db.execute("SELECT cents - held FROM account WHERE name = ?", (account,)).fetchone()
        available = row[0] if row else 0
        if cents < 0 and available < -cents:
            return self.refuse(db, body, "insufficient funds")
        # What is taken is held from now on; what is added is there with the commit.
        db.execute("UPDATE account SET held = held + ? WHERE name = ?", (max(0, -cents), account))
        self.put(db, body, "PREPARED", account, cents)
        return {"vote": "PREPARED"}

    def refuse(self, db, body, reason):
        self.put(db, body, "ROLLED_BACK")
        return {"vote": "REFUSED", "reason": reason}

    def commit(self, db, body):
        state = self.state(db, body["xid"])
        if state is None:
            return {"state": "UNKNOWN"}
        if state == "PREPARED":
            account, cents = db.execute("SELECT account, cents FROM branch WHERE xid = ?", (body["xid"],)).fetchone()
            db.execute("INSERT OR IGNORE INTO account (name, cents) VALUES (?, 0)", (account,))
            db.execute("UPDATE account SET cents = cents + ?, held = held - ? WHERE name = ?", (cents, max(0, -cents), account))
            db.execute("UPDATE branch SET state = 'COMMITTED' WHERE xid = ?", (body["xid"],))
            return {"state": "COMMITTED"}
        return {"state": state}  # it has ended, so or otherwise

    def rollback(self, db, body):
        state = self.state(db, body["xid"])
        if state == "COMMITTED":
            return {"state": "COMMITTED"}  # the coordinator has to hear the truth
        if state == "PREPARED":
            db.execute(
                "UPDATE account SET held = held - max(0, -b.cents) FROM branch AS b"
                " WHERE b.xid = ? AND account.name = b.account", (body["xid"],))
            db.execute("UPDATE branch SET state = 'ROLLED_BACK' WHERE xid = ?", (body["xid"],))
        elif state is None:
            self.put(db, body, "ROLLED_BACK")
        return {"state": "ROLLED_BACK"}

    def prepared(self, domain):
        with self.transaction() as db:
            branches = db.execute("SELECT xid FROM branch WHERE domain = ? AND state = 'PREPARED' ORDER BY xid", (domain,))
            listed = [row[0] for row in branches]
            highest = [row[0] for row in db.execute("SELECT highest FROM seen WHERE domain = ?", (domain,))]
        return {"branches": listed, "highest": highest}

    def forget(self, branches):
        # Rolled back branches stay: they refuse a late prepare.
        with self.transaction() as db:
            for xid in branches:
                db.execute("DELETE FROM branch WHERE xid = ? AND state = 'COMMITTED'", (xid,))
        return {}

    def account(self, name):
        with self.transaction() as db:
            row = db.execute("SELECT cents, held FROM account WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise Refusal(404, "no account %r" % name)
        return {"account": name, "cents": row[0], "held": row[1]}


class Transaction:
    """A write transaction of its own connection; durable when it ends without error."""

    def __init__(self, path):
        self.db = sqlite3.connect(path, timeout=10, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")

    def __enter__(self):
        self.db.execute("BEGIN IMMEDIATE")
        return self.db

    def __exit__(self, kind, *_):
        try:
            if self.db.in_transaction:
                self.db.execute("COMMIT" if kind is None else "ROLLBACK")
        finally:
            self.db.close()


def payload(body):
    if "payload_base64" in body:
        return base64.b64decode(body["payload_base64"]).decode()
    return body.get("payload", "")


def verify(headers, body, secret):
    """Checks a signature of the standard-webhooks scheme."""
    identity, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > TOLERANCE:
        raise Refusal(401, "the timestamp is missing or too far from this clock: compare the two clocks")
    signed = b".".join((identity.encode(), stamp.encode(), body))
    want = "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    if not any(hmac.compare_digest(want, given) for given in headers.get("webhook-signature", "").split(" ")):
        raise Refusal(401, "the signature is wrong: both sides need the same secret")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bank, secret = None, None

    def do_GET(self):
        self.answer(lambda: self.bank.account(self.path.removeprefix("/accounts/")))

    def do_POST(self):
        self.answer(self.call)

    def call(self):
        length = int(self.headers.get("content-length", -1))
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            raise Refusal(413, "a body of 0 to %d bytes and its content-length are needed" % MAX_BODY)
        raw = self.rfile.read(length)
        if self.secret:
            verify(self.headers, raw, self.secret)
        try:
            body = json.loads(raw)
            phase = self.path.rsplit("/", 1)[-1]
            # The body is signed and the path is not: else a prepare that was overheard
            # would commit.
            if body["phase"] != phase:
                raise Refusal(400, "the body is one of %r" % body["phase"])
            if phase in ("prepare", "commit", "rollback"):
                return self.bank.call(phase, body)
            if phase == "prepared":
                return self.bank.prepared(body["domain"])
            if phase == "forget":
                return self.bank.forget(body["branches"])
        except (KeyError, TypeError, ValueError) as e:
            raise Refusal(400, "bad request: %r" % e) from e
        raise Refusal(404, "no such call: %s" % self.path)

    def answer(self, make):
        try:
            status, body = 200, make()
        except Refusal as e:
            status, body = e.status, {"error": str(e)}
        except sqlite3.Error as e:  # not an answer: the coordinator asks again
            status, body = 503, {"error": str(e)}
        text = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:  # whoever asked has left, and asks again
            self.close_connection = True

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--file", default="bank.db")
    parser.add_argument("--secret-file", help="holds the secret of the participant, whsec_...")
    parser.add_argument("--account", action="append", default=[], metavar="NAME=CENTS", help="made if it is not there")
    args = parser.parse_args()
    accounts = [(name, int(cents)) for name, cents in (a.split("=") for a in args.account)]
    Handler.bank = Bank(args.file, accounts)
    if args.secret_file:
        with open(args.secret_file, encoding="ascii") as f:
            Handler.secret = base64.b64decode(f.read().strip().removeprefix("whsec_"))
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    print("http://127.0.0.1:%d" % server.server_port, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
