#!/usr/bin/env python3
"""Moves money between two participants in one transaction, over HTTP/JSON with Python's
standard library.

    python3 client.py --server http://127.0.0.1:7379 bank_a "ann -30" bank_b "bob 30"

The exit code says what became of it: 0 committed, 7 rolled back, 8 not known yet (ask
again with the same request id), 1 anything else.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
import uuid

COMMITTED, FAILED, ROLLED_BACK, UNKNOWN = 0, 1, 7, 8


class Failed(Exception):
    """An error the server answered with."""

    def __init__(self, body):
        super().__init__(body.get("message", ""))
        self.code = body.get("code", "")
        self.info = next((d["debug"] for d in body.get("details", []) if d.get("type") == "assent.v1.ErrorInfo" and "debug" in d), {})


class Assent:
    def __init__(self, server, token=None):
        self.server, self.token = server.rstrip("/"), token

    def call(self, method, request, timeout=30):
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = "Bearer " + self.token
        url = "%s/assent.v1.TransactionService/%s" % (self.server, method)
        try:
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(request).encode(), headers), timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            try:
                body = json.load(e)
            except ValueError:  # a proxy's page, for example
                body = {"code": "unknown", "message": "HTTP status %d" % e.code}
            raise Failed(body) from e

    def submit(self, enlistments, name="", attempts=10):
        """Begins, enlists and commits. The request id makes it safe to ask again."""
        request = {"name": name, "requestId": str(uuid.uuid4()), "enlistments": enlistments}
        for attempt in range(attempts):
            try:
                return self.call("Submit", request)
            except Failed as e:
                # After "aborted" the work may be done again, in a transaction of its
                # own; here the user decides on that.
                if not e.info.get("retryable"):
                    raise
            except OSError:  # nobody knows whether the server got it
                pass
            time.sleep(min(2.0, 0.05 * 2**attempt))
        raise TimeoutError("no answer: ask again with the request id " + request["requestId"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="http://127.0.0.1:7379")
    parser.add_argument("--token-file")
    parser.add_argument("enlistment", nargs="+", metavar="PARTICIPANT PAYLOAD")
    args = parser.parse_args()
    if len(args.enlistment) % 2:
        parser.error("each participant needs a payload")
    token = None
    if args.token_file:
        with open(args.token_file, encoding="ascii") as f:
            token = f.read().strip()
    pairs = zip(args.enlistment[::2], args.enlistment[1::2])
    try:
        answer = Assent(args.server, token).submit([{"participant": p, "text": text} for p, text in pairs], name="transfer")
    except TimeoutError as e:
        print("unknown:", e, file=sys.stderr)
        sys.exit(UNKNOWN)
    except Failed as e:
        print("%s: %s" % (e.code, e), file=sys.stderr)
        sys.exit(ROLLED_BACK if e.code == "aborted" else FAILED)
    # STATE_COMMITTING: it is decided, and some bank is still to be told.
    print(answer["transactionId"], answer["state"])
    sys.exit(COMMITTED)


if __name__ == "__main__":
    main()
