package barrier_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	_ "modernc.org/sqlite"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

// transfer is one side of a transfer of money, given at Enlist. Below zero it
// takes from the account.
type transfer struct {
	Account string
	Cents   int64
}

func decode(b participant.Branch) (t transfer, err error) {
	err = json.Unmarshal(b.Data, &t)
	return t, err
}

// reserveMoney takes what goes out from the balance, so that nobody spends it
// twice. What comes in is not to be seen before it is certain.
func reserveMoney(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	t, err := decode(b)
	if err != nil {
		return err
	}
	result, err := tx.ExecContext(ctx, `UPDATE account SET balance = balance + min(?1, 0) WHERE name = ?2 AND balance + ?1 >= 0`, t.Cents, t.Account)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return barrier.Refuse("no such account, or insufficient funds")
}

// confirmMoney adds what comes in.
func confirmMoney(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	t, err := decode(b)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE account SET balance = balance + max(?1, 0) WHERE name = ?2`, t.Cents, t.Account)
	return err
}

// cancelMoney gives back what was taken.
func cancelMoney(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	t, err := decode(b)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE account SET balance = balance - min(?1, 0) WHERE name = ?2`, t.Cents, t.Account)
	return err
}

// A bank whose accounts take part in transfers. The calls of a coordinator are
// made by hand.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "bank")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	db, err := barrier.OpenSQLite(filepath.Join(dir, "bank.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, `CREATE TABLE account (name TEXT PRIMARY KEY, balance INTEGER NOT NULL);
		INSERT INTO account VALUES ('ann', 100), ('bob', 0)`); err != nil {
		log.Fatal(err)
	}

	bank, err := barrier.New(ctx, barrier.Config{
		Name: "bank", DB: db, Dialect: barrier.SQLite,
		Reserve: reserveMoney, Confirm: confirmMoney, Cancel: cancelMoney,
	})
	if err != nil {
		log.Fatal(err)
	}

	branch := participant.Branch{
		Domain: "example", Epoch: 1, Participant: "bank",
		Tx:   participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.Must(uuid.NewV7())},
		Data: []byte(`{"Account":"ann","Cents":-30}`),
	}
	vote, err := bank.Prepare(ctx, branch)
	fmt.Println(vote, err)
	fmt.Println(bank.Commit(ctx, branch), bank.Commit(ctx, branch))

	branch.Tx.UUID = uuid.Must(uuid.NewV7())
	branch.Data = []byte(`{"Account":"bob","Cents":-1}`)
	vote, _ = bank.Prepare(ctx, branch)
	fmt.Println(vote)

	var balance int64
	if err := db.QueryRowContext(ctx, `SELECT balance FROM account WHERE name = 'ann'`).Scan(&balance); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ann has", balance)
	// Output:
	// prepared <nil>
	// <nil> <nil>
	// refused
	// ann has 70
}
