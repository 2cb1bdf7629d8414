// Package demo is what Assent's demos share: a coordinator that is a child process
// and is killed again and again, and claims that are checked when they are printed.
//
// The parent starts the coordinator (process.go), asks it for deals (wire.go), many at
// a time and with kills in between (storm.go), reads the databases itself, and checks
// what it claims (claim.go). The child (child.go) does the deals, and waits at crash
// points to be killed (hold.go).
package demo

import (
	"errors"

	"github.com/assent-tm/assent/participant"
)

// ErrNotProven says that a claim of a demo does not hold. The story says which.
var ErrNotProven = errors.New("the proof failed")

// Deal is a piece of business that is to be done as a whole or not at all, as the
// parent remembers it.
type Deal[T any] struct {
	Number int
	What   T
	// Txs are all transactions that were begun for it: another one only after it
	// was certain that the one before was rolled back. The last is the current one
	// if begun.
	Txs    []participant.TxID
	Answer Answer

	begun bool
	tries int // that were rolled back
}

// Tx is the current transaction.
func (d *Deal[T]) Tx() participant.TxID { return d.Txs[len(d.Txs)-1] }

// noteTx notes the current transaction, which may be noted already.
func (d *Deal[T]) noteTx(tx participant.TxID) {
	if len(d.Txs) == 0 || d.Tx() != tx {
		d.Txs = append(d.Txs, tx)
	}
}
