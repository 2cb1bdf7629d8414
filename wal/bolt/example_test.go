package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
)

// A log is copied while its coordinator uses it, and the copy is put in place later.
// What is restored is in quarantine, until an operator has compared it with the
// participants.
func ExampleStore_Snapshot() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := snapshotAndRestore(context.Background(), dir); err != nil {
		fmt.Println(err)
	}
	// Output:
	// orders restored
	// quarantined: true, because the disk failed
}

func snapshotAndRestore(ctx context.Context, dir string) error {
	store, err := bolt.Open(filepath.Join(dir, "assent.db"), nil)
	if err != nil {
		return err
	}
	log, _, err := wal.Open(ctx, store, wal.Config{Domain: "orders"}) // coordinator.Open does it
	if err != nil {
		return errors.Join(err, store.Close())
	}
	monday := filepath.Join(dir, "monday.db")
	err = store.Snapshot(ctx, monday) // from inside, at any time
	if err := errors.Join(err, log.Close(ctx), store.Close()); err != nil {
		return err
	}

	restored, err := bolt.Restore(ctx, monday, filepath.Join(dir, "assent.db"), bolt.RestoreOptions{Reason: "the disk failed", Replace: true})
	if err != nil {
		return err
	}
	fmt.Println(restored.Domain, "restored")
	r, err := bolt.OpenReader(restored.Path)
	if err != nil {
		return err
	}
	contents, err := wal.Read(ctx, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	words := contents.Words
	fmt.Printf("quarantined: %t, because %s\n", words.Quarantined(), words.Quarantine.Reason)
	return nil
}
