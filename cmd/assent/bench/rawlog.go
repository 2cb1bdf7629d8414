package bench

import (
	"context"
	"errors"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// rawLog is the most that one goroutine can write: the same records in the same
// packing, in the batches that so many clients could fill at best, and nobody waits.
type rawLog struct {
	store  *bolt.Store
	stream wal.Stream
	ids    uint64

	seq, oldest uint64 // segments appended, and the oldest not dropped
	segment     []byte
	ended       []participant.TxID // to be completed with the next batch
}

// rawKept is how many segments are dropped at once.
const rawKept = 64

func openRaw(ctx context.Context, path string) (*rawLog, error) {
	store, err := bolt.Open(path, anywhere)
	if err != nil {
		return nil, err
	}
	r := &rawLog{store: store, oldest: 1}
	if r.stream, err = store.Open(ctx, "bench"); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return r, nil
}

// load returns transactions per second of batches for so many clients.
func (r *rawLog) load(ctx context.Context, clients int, slice time.Duration) (float64, error) {
	start, n := time.Now(), 0
	for ok := true; ok; ok = time.Since(start) < slice {
		if err := r.batches(ctx, clients); err != nil {
			return 0, err
		}
		n += clients
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// batches appends the two segments of so many transactions.
func (r *rawLog) batches(ctx context.Context, clients int) error {
	now := time.Now()
	var first, second []record.Record
	for _, id := range r.ended {
		first = append(first, record.Completed{Tx: id, At: now})
	}
	r.ended = r.ended[:0]
	for range clients {
		r.ids++
		id := nthID(r.stream.Term(), r.ids)
		first = append(first, begunEnlisted(id, now)...)
		second = append(second, decided(id))
		r.ended = append(r.ended, id)
	}
	return errors.Join(r.append(ctx, first), r.append(ctx, second))
}

func (r *rawLog) append(ctx context.Context, records []record.Record) (err error) {
	r.seq++
	header := record.Header{Term: r.stream.Term(), Seq: r.seq, Highest: nthID(0, r.ids).UUID}
	if r.segment, err = record.Append(r.segment[:0], header); err != nil {
		return err
	}
	for _, each := range records {
		if r.segment, err = record.Append(r.segment, each); err != nil {
			return err
		}
	}
	var drop []uint64
	if r.seq-r.oldest >= 2*rawKept {
		for range rawKept {
			drop = append(drop, r.oldest)
			r.oldest++
		}
	}
	return r.stream.Append(ctx, r.seq, r.segment, drop)
}
