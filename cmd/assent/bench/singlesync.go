package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

var singleSyncArea = area{
	name:    "log.singlesync",
	figures: []string{"log.singlesync_ratio.c1"},
	measure: singleSync, about: perRound(2),
}

// singleSync compares the log with one fdatasync per commit to the log with two.
func singleSync(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	var logs [2]*forcedLog
	for i := range logs {
		once := i == 1
		logs[i], err = openForced(ctx, filepath.Join(dir, fmt.Sprintf("synced-%d.db", 2-i)), &bolt.Options{SingleSync: once})
		if err != nil {
			return nil, fmt.Errorf("log.singlesync_ratio: %w", err)
		}
		defer func() { err = errors.Join(err, logs[i].close(context.WithoutCancel(ctx))) }()
	}
	var ratios []float64
	for round := range o.Rounds {
		if o.Progress != nil {
			o.Progress(fmt.Sprintf("one sync or two, round %d of %d", round+1, o.Rounds))
		}
		var rates [2]float64
		for turn := range rates {
			which := (round + turn) % 2 // neither always comes first
			r, err := load(ctx, 1, o.Slice, logs[which].transaction)
			if err != nil {
				return nil, fmt.Errorf("log.singlesync_ratio: %w", err)
			}
			rates[which] = r.perSecond
		}
		ratios = append(ratios, rates[1]/rates[0])
	}
	return []Figure{atLeast("log.singlesync_ratio.c1", median(ratios), "times", 1.4, "transactions with one fdatasync per commit to those with two, 1 client")}, nil
}

// forcedLog is a log of its own, whose transactions are two forced appends.
type forcedLog struct {
	store *bolt.Store
	log   *wal.Log
	last  uint64
}

func openForced(ctx context.Context, path string, o *bolt.Options) (*forcedLog, error) {
	store, err := bolt.Open(path, o)
	if err != nil {
		return nil, err
	}
	log, _, err := wal.Open(ctx, store, wal.Config{Domain: "bench", Retention: -1})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &forcedLog{store: store, log: log}, nil
}

func (l *forcedLog) close(ctx context.Context) error {
	return errors.Join(l.log.Close(ctx), l.store.Close())
}

// transaction is for one client.
func (l *forcedLog) transaction(context.Context) error {
	l.last++
	id := participant.TxID{Term: l.log.Term()}
	binary.BigEndian.PutUint64(id.UUID[:], l.last)
	place, now := l.log.NewPlace(id), time.Now()
	err := l.append(place, true,
		record.Begun{Tx: id, At: now, Timeout: 30 * time.Second},
		record.Enlisted{Tx: id, Number: 0, Participant: "bank_a"},
		record.Enlisted{Tx: id, Number: 1, Participant: "bank_b"},
		record.Preparing{Tx: id})
	if err == nil {
		err = l.append(place, true, record.Decided{Tx: id, Decision: record.DecisionCommit, By: -1})
	}
	if err == nil {
		err = l.append(place, false, record.Completed{Tx: id, At: now})
	}
	return err
}

func (l *forcedLog) append(place *wal.Place, forced bool, records ...record.Record) error {
	batch, err := l.log.Append(place, forced, records...)
	if err != nil || !forced {
		return err
	}
	<-batch.Done()
	return batch.Err()
}
