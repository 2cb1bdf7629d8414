package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// loadedLog is a log with nothing above it.
type loadedLog struct {
	store *bolt.Store
	log   *wal.Log
	ids   atomic.Uint64
}

func openLog(ctx context.Context, path string, retention time.Duration, opts *bolt.Options) (*loadedLog, error) {
	store, err := bolt.Open(path, opts)
	if err != nil {
		return nil, err
	}
	l := &loadedLog{store: store}
	l.log, _, err = wal.Open(ctx, store, wal.Config{Domain: "bench", Retention: retention})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return l, nil
}

func (l *loadedLog) close(ctx context.Context) error {
	return errors.Join(l.log.Close(ctx), l.store.Close())
}

// transaction is what a coordinator with two participants writes: one forced append
// before it asks for the votes, one with the decision, and a lazy one when all have
// acknowledged.
func (l *loadedLog) transaction(context.Context) error {
	id := nthID(l.log.Term(), l.ids.Add(1))
	place, now := l.log.NewPlace(id), time.Now()
	if err := l.force(place, begunEnlisted(id, now)...); err != nil {
		return err
	}
	if err := l.force(place, decided(id)); err != nil {
		return err
	}
	_, err := l.log.Append(place, false, record.Completed{Tx: id, At: now})
	return err
}

func (l *loadedLog) force(place *wal.Place, records ...record.Record) error {
	batch, err := l.log.Append(place, true, records...)
	if err != nil {
		return err
	}
	return batch.Wait()
}

func nthID(term participant.Term, n uint64) participant.TxID {
	id := participant.TxID{Term: term}
	binary.BigEndian.PutUint64(id.UUID[:], n)
	return id
}

func begunEnlisted(id participant.TxID, now time.Time) []record.Record {
	return []record.Record{
		record.Begun{Tx: id, At: now, Timeout: 30 * time.Second},
		record.Enlisted{Tx: id, Number: 0, Participant: "bank_a"},
		record.Enlisted{Tx: id, Number: 1, Participant: "bank_b"},
		record.Preparing{Tx: id},
	}
}

func decided(id participant.TxID) record.Record {
	return record.Decided{
		Tx: id, Decision: record.DecisionCommit, By: record.NoBranch,
		Votes: []participant.Vote{participant.VotePrepared, participant.VotePrepared},
	}
}
