package banks

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

// readers are the parent's own connections to the two databases. It reads them
// while no coordinator is writing.
type readers map[string]*sql.DB

func openReaders(dir string) (readers, error) {
	r := readers{}
	for _, bank := range bankNames {
		db, err := barrier.OpenSQLite(bankFile(dir, bank))
		if err != nil {
			return nil, errors.Join(err, r.close())
		}
		r[bank] = db
	}
	return r, nil
}

func (r readers) close() (err error) {
	for _, db := range r {
		err = errors.Join(err, db.Close())
	}
	return err
}

// books are what a bank's database says.
type books struct {
	accounts map[string]account
	entries  []entry
	branches map[participant.TxID]string // state by transaction
}

type account struct{ balance, reserved int64 }

type entry struct {
	tx      participant.TxID
	account string
	amount  int64
}

// States of a branch in the barrier's table.
const (
	prepared  = "prepared" // does not know its decision
	committed = "committed"
)

// read reads everything of both banks.
func (r readers) read(ctx context.Context) (map[string]books, error) {
	all := map[string]books{}
	for _, bank := range bankNames {
		b := books{accounts: map[string]account{}}
		err := errors.Join(
			query(ctx, r[bank], "SELECT name, balance, reserved FROM account", func(row *sql.Rows) error {
				var name string
				var a account
				err := row.Scan(&name, &a.balance, &a.reserved)
				b.accounts[name] = a
				return err
			}),
			query(ctx, r[bank], "SELECT tx, account, amount FROM entry ORDER BY id", func(row *sql.Rows) error {
				var e entry
				var tx string
				err := row.Scan(&tx, &e.account, &e.amount)
				if err == nil {
					e.tx, err = participant.ParseTxID(tx)
				}
				b.entries = append(b.entries, e)
				return err
			}),
		)
		if err != nil {
			return nil, fmt.Errorf("read the database of %s: %w", bank, err)
		}
		if b.branches, err = r.branches(ctx, bank, "TRUE"); err != nil {
			return nil, err
		}
		all[bank] = b
	}
	return all, nil
}

// inDoubt returns the prepared branches of each bank: those that do not know their
// decision.
func (r readers) inDoubt(ctx context.Context) (map[string]map[participant.TxID]string, error) {
	found := map[string]map[participant.TxID]string{}
	for _, bank := range bankNames {
		branches, err := r.branches(ctx, bank, "expires = 0") // the barrier's index has these
		if err != nil {
			return nil, err
		}
		found[bank] = branches
	}
	return found, nil
}

// allInDoubt returns those of both banks together.
func (r readers) allInDoubt(ctx context.Context, _ string) (map[participant.TxID]bool, error) {
	all := map[participant.TxID]bool{}
	found, err := r.inDoubt(ctx)
	for _, branches := range found {
		for tx := range branches {
			all[tx] = true
		}
	}
	return all, err
}

func (r readers) branches(ctx context.Context, bank, where string) (map[participant.TxID]string, error) {
	found := map[participant.TxID]string{}
	err := query(ctx, r[bank], "SELECT id, state FROM "+barrier.DefaultTable+" WHERE "+where, func(row *sql.Rows) error {
		var id, state string
		err := row.Scan(&id, &state)
		if err != nil {
			return err
		}
		b, err := participant.ParseXID(id)
		found[b.Tx] = state
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the branches of %s: %w", bank, err)
	}
	return found, nil
}

func query(ctx context.Context, db *sql.DB, statement string, each func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// balances returns the balance of every account.
func balances(all map[string]books) map[string]int64 {
	found := map[string]int64{}
	for _, b := range all {
		for name, a := range b.accounts {
			found[name] = a.balance
		}
	}
	return found
}

func total(all map[string]books) (sum int64) {
	for _, balance := range balances(all) {
		sum += balance
	}
	return sum
}
