#!/bin/sh
# The whole life of a transaction with curl: begin, enlist twice, commit, look.
#   sh transfer.sh http://127.0.0.1:7379 bank_a 'ann -30' bank_b 'bob 30'
set -eu
server=$1 from=$2 taken=$3 to=$4 added=$5

call() {
	curl --silent --show-error --fail-with-body --json "$2" "$server/assent.v1.TransactionService/$1"
}

# Of the answer {"transactionId":"…"}: no tool but sed is needed.
id=$(call Begin '{"name":"transfer"}' | sed 's/.*"transactionId": *"\([^"]*\)".*/\1/')
call Enlist "{\"transactionId\":\"$id\",\"enlistment\":{\"participant\":\"$from\",\"text\":\"$taken\"}}" >/dev/null
call Enlist "{\"transactionId\":\"$id\",\"enlistment\":{\"participant\":\"$to\",\"text\":\"$added\"}}" >/dev/null
call Commit "{\"transactionId\":\"$id\"}"
echo
call Get "{\"transactionId\":\"$id\"}"
echo
