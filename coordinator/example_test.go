package coordinator_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/bolt"
)

// Two services take part in one transaction. Their functions would reserve, book
// or release money under the transaction's id.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	ctx := context.Background()
	store, err := bolt.Open(filepath.Join(dir, "assent.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	prepare := func(context.Context, participant.TxID) (bool, error) { return true, nil }
	finish := func(context.Context, participant.TxID) error { return nil }
	bankA := participant.Func("bank_a", prepare, finish, finish)
	bankB := participant.Func("bank_b", prepare, finish, finish)
	dtm, err := coordinator.Open(ctx, coordinator.Config{Domain: "orders", Store: store, Participants: []participant.Participant{bankA, bankB}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = dtm.Close(ctx) }()

	err = dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
		if _, err := tx.Enlist(ctx, bankA, nil); err != nil {
			return err
		}
		_, err := tx.Enlist(ctx, bankB, nil)
		return err
	})
	fmt.Println("commit:", err)
	// Output: commit: <nil>
}
