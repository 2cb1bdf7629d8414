package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/bolt"
)

// round is what a number of clients got done in a slice of time.
type round struct {
	perSecond float64
	p50       time.Duration
}

// load lets clients repeat do for a slice of time, each of them at least once.
func load(ctx context.Context, clients int, slice time.Duration, do func(context.Context) error) (round, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([][]time.Duration, clients)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			// Once at least, however late the client comes to run.
			for ok := true; ok; ok = time.Since(start) < slice && ctx.Err() == nil {
				begin := time.Now()
				if err := do(ctx); err != nil {
					cancel(err)
					return
				}
				took[i] = append(took[i], time.Since(begin))
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if err := context.Cause(ctx); err != nil {
		return round{}, err
	}
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	return round{perSecond: float64(len(all)) / elapsed.Seconds(), p50: median(all)}, nil
}

// assent is a coordinator with a log of its own and two participants that do
// nothing: what is measured is the coordinator.
type assent struct {
	dtm          *coordinator.DTM
	store        *bolt.Store
	participants []participant.Participant
}

func openAssent(ctx context.Context, dir string) (*assent, error) {
	store, err := bolt.Open(filepath.Join(dir, "assent.db"), nil)
	if err != nil {
		return nil, err
	}
	a := &assent{store: store, participants: []participant.Participant{idle("bank_a"), idle("bank_b")}}
	a.dtm, err = coordinator.Open(ctx, coordinator.Config{Domain: "bench", Store: store, Participants: a.participants})
	if err != nil {
		_ = store.Close()
		return nil, err
	}
	return a, nil
}

func (a *assent) close(ctx context.Context) error {
	err := a.dtm.Close(ctx)
	if closeErr := a.store.Close(); err == nil {
		err = closeErr
	}
	return err
}

// transaction is one begin, two enlists, and a commit that every participant has
// acknowledged.
func (a *assent) transaction(ctx context.Context) error {
	id, err := a.dtm.Begin(ctx)
	if err != nil {
		return err
	}
	for _, p := range a.participants {
		if err := a.dtm.Enlist(ctx, id, p); err != nil {
			return err
		}
	}
	return a.dtm.Commit(ctx, id)
}

func idle(name string) participant.Participant {
	nothing := func(context.Context, participant.TxID) error { return nil }
	return participant.Func(name, func(context.Context, participant.TxID) (bool, error) { return true, nil }, nothing, nothing)
}

// plain is the same protocol the obvious way: one db.Update for each record, with
// the options of bbolt that Assent uses.
type plain struct{ db *bbolt.DB }

// recordsPerTransaction: begun, two enlisted, decided, completed.
const (
	recordsPerTransaction = 5
	recordBytes           = 45 // of a record in Assent's log, on average
)

var records = []byte("records")

func openPlain(dir string) (*plain, error) {
	db, err := bbolt.Open(filepath.Join(dir, "plain.db"), 0o600, &bbolt.Options{
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, InitialMmapSize: 1 << 30, Timeout: time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("open the database to compare with: %w", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(records)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the database to compare with: %w", err)
	}
	return &plain{db: db}, nil
}

// record is one commit of bbolt. A ring of keys keeps the file from growing.
func (p *plain) record(context.Context) error {
	return p.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(records)
		n, err := bucket.NextSequence()
		if err != nil {
			return err
		}
		const ring = 4096
		key := [2]byte{byte(n % ring >> 8), byte(n % ring)}
		return bucket.Put(key[:], make([]byte, recordBytes))
	})
}

func (p *plain) transaction(ctx context.Context) error {
	for range recordsPerTransaction {
		if err := p.record(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *plain) close() error { return p.db.Close() }
