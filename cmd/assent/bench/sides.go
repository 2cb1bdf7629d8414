package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/bolt"
)

// assent is a coordinator with a log of its own and two participants that do
// nothing: what is measured is the coordinator.
type assent struct {
	dtm          *coordinator.DTM
	store        *bolt.Store
	participants []participant.Participant
}

// anywhere: what this log holds is of no worth to anybody.
var anywhere = &bolt.Options{AllowNetworkFS: true}

// openAssent opens one as an embedder would, but for what change makes of its
// configuration.
func openAssent(ctx context.Context, dir string, change ...func(*coordinator.Config)) (*assent, error) {
	store, err := bolt.Open(filepath.Join(dir, "assent.db"), anywhere)
	if err != nil {
		return nil, err
	}
	a := &assent{store: store, participants: []participant.Participant{idle("bank_a"), idle("bank_b")}}
	config := coordinator.Config{
		Domain: "bench", Store: store, Participants: a.participants, Logger: warnings(),
		CommitWait: time.Minute, // a busy disk makes figures worse, and does not end the run
	}
	for _, c := range change {
		c(&config)
	}
	a.dtm, err = coordinator.Open(ctx, config)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return a, nil
}

// warnings is a real logger, whose lines nobody reads.
func warnings() *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	return zap.New(zapcore.NewCore(encoder, zapcore.AddSync(io.Discard), zap.WarnLevel))
}

func (a *assent) close(ctx context.Context) error {
	return errors.Join(a.dtm.Close(ctx), a.store.Close())
}

// begin is a begin and two enlists.
func (a *assent) begin(ctx context.Context) (participant.TxID, error) {
	id, err := a.dtm.Begin(ctx)
	if err != nil {
		return id, err
	}
	for _, p := range a.participants {
		if err := a.dtm.Enlist(ctx, id, p); err != nil {
			return id, err
		}
	}
	return id, nil
}

// transaction is one begin, two enlists, and a commit that every participant has
// acknowledged.
func (a *assent) transaction(ctx context.Context) error {
	id, err := a.begin(ctx)
	if err != nil {
		return err
	}
	return a.dtm.Commit(ctx, id)
}

// fdatasyncs is how many the store has made: two for each of its commits.
func (a *assent) fdatasyncs() (uint64, error) {
	stats, err := a.store.Stats()
	return 2 * stats.Commits, err
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
		return nil, fmt.Errorf("open the database to compare with: %w", errors.Join(err, db.Close()))
	}
	p := &plain{db: db}
	if err := p.fill(); err != nil {
		return nil, fmt.Errorf("fill the database to compare with: %w", errors.Join(err, db.Close()))
	}
	return p, nil
}

// ring is how many keys there are; they keep the file from growing.
const ring = 4096

// record is one commit of bbolt.
func (p *plain) record(context.Context) error { return p.db.Update(putNext) }

// fill writes every key once.
func (p *plain) fill() error {
	return p.db.Update(func(tx *bbolt.Tx) error {
		for range ring {
			if err := putNext(tx); err != nil {
				return err
			}
		}
		return nil
	})
}

func putNext(tx *bbolt.Tx) error {
	bucket := tx.Bucket(records)
	n, err := bucket.NextSequence()
	if err != nil {
		return err
	}
	key := [2]byte{byte(n % ring >> 8), byte(n % ring)}
	return bucket.Put(key[:], make([]byte, recordBytes))
}

func (p *plain) transaction(ctx context.Context) error {
	for range recordsPerTransaction {
		if err := ctx.Err(); err != nil {
			return err // bbolt does not look
		}
		if err := p.record(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (p *plain) close() error { return p.db.Close() }
