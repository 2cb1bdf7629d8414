package banks

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	_ "modernc.org/sqlite" // the driver that barrier.OpenSQLite looks up

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

// The two banks. Each is a participant with a database of its own.
const (
	bankA = "bank_a"
	bankB = "bank_b"
)

var bankNames = []string{bankA, bankB}

var accountsOf = map[string][]string{
	bankA: {"alice", "anna", "arthur", "agnes"},
	bankB: {"bob", "bella", "boris", "bruno"},
}

// openingBalance is what every account begins with, in coins.
const openingBalance = 1000

// bankOf returns the bank that keeps the account, "" if none does.
func bankOf(account string) string {
	for bank, accounts := range accountsOf {
		if slices.Contains(accounts, account) {
			return bank
		}
	}
	return ""
}

// Accounts says which accounts there are.
func Accounts() string {
	var s []string
	for _, bank := range bankNames {
		s = append(s, fmt.Sprintf("%s has %s", bank, strings.Join(accountsOf[bank], ", ")))
	}
	return strings.Join(s, "; ")
}

// bankSchema is the bank's own; the barrier adds its tables. An entry is written
// where money moves and is the witness of it. Nothing in the schema keeps an entry
// from being written twice: that is for the protocol to keep, and for the proof to
// see.
const bankSchema = `
CREATE TABLE account (
	name     TEXT    NOT NULL PRIMARY KEY,
	balance  INTEGER NOT NULL,
	reserved INTEGER NOT NULL DEFAULT 0 CHECK (0 <= reserved AND reserved <= balance)
);
CREATE TABLE entry (
	id      INTEGER PRIMARY KEY,
	tx      TEXT    NOT NULL,
	account TEXT    NOT NULL REFERENCES account (name),
	amount  INTEGER NOT NULL
);`

func bankFile(dir, bank string) string { return filepath.Join(dir, bank+".db") }

// createBank makes a bank's database with its accounts.
func createBank(ctx context.Context, dir, bank string) (err error) {
	db, err := barrier.OpenSQLite(bankFile(dir, bank))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, bankSchema); err != nil {
		return fmt.Errorf("create %s: %w", bank, err)
	}
	for _, name := range accountsOf[bank] {
		if _, err := db.ExecContext(ctx, "INSERT INTO account (name, balance) VALUES (?, ?)", name, openingBalance); err != nil {
			return fmt.Errorf("create account %s of %s: %w", name, bank, err)
		}
	}
	_, err = newBank(ctx, bank, db) // for the barrier's tables
	return err
}

// newBank returns the participant over a bank's database.
func newBank(ctx context.Context, bank string, db *sql.DB) (*barrier.Participant, error) {
	return barrier.New(ctx, barrier.Config{
		Name: bank, DB: db, Dialect: barrier.SQLite,
		Reserve: reserve, Confirm: confirm, Cancel: cancel,
	})
}

// side is one bank's part of a transfer, given at Enlist. Below zero it takes
// money from the account.
type side struct {
	Account string
	Amount  int64
}

func sides(t Transfer) map[string]side {
	return map[string]side{
		bankOf(t.From): {Account: t.From, Amount: -t.Amount},
		bankOf(t.To):   {Account: t.To, Amount: t.Amount},
	}
}

// data is what is given at Enlist.
func (s side) data() ([]byte, error) { return json.Marshal(s) }

func sideOf(b participant.Branch) (s side, err error) {
	if err := json.Unmarshal(b.Data, &s); err != nil {
		return side{}, fmt.Errorf("data of branch %s: %w", b.XID(), err)
	}
	return s, nil
}

const insufficientFunds = "insufficient funds"

var errInsufficientFunds = barrier.Refuse(insufficientFunds)

// reserve sets aside what goes out, so that nobody else can spend it. What comes
// in needs nothing but the account.
func reserve(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	s, err := sideOf(b)
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx,
		`UPDATE account SET reserved = reserved + max(-?1, 0) WHERE name = ?2 AND balance - reserved >= -?1`, s.Amount, s.Account)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return errInsufficientFunds
}

// confirm moves the money.
func confirm(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	s, err := sideOf(b)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx,
		`UPDATE account SET balance = balance + ?1, reserved = reserved - max(-?1, 0) WHERE name = ?2`, s.Amount, s.Account); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO entry (tx, account, amount) VALUES (?, ?, ?)`, b.Tx.String(), s.Account, s.Amount)
	return err
}

// cancel lets go of what was set aside.
func cancel(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	s, err := sideOf(b)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE account SET reserved = reserved - max(-?1, 0) WHERE name = ?2`, s.Amount, s.Account)
	return err
}
