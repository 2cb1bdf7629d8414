package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

var logArea = area{
	name: "log",
	figures: []string{
		"log.rate.c1", "log.p50_commits.c1", "log.raw_ratio.c1",
		"log.rate.c16", "log.raw_ratio.c16", "log.update_ratio.c16",
		"log.rate.c64", "log.raw_ratio.c64",
		"log.rate.c256", "log.raw_ratio.c256", "log.update_ratio.c256",
		"log.rate.c1024", "log.raw_ratio.c1024", "log.update_ratio.c1024", "log.bytes_per_tx.c1024",
		"log.retention_cost",
	},
	measure: measureLog, about: perRound(20),
}

// measureLog measures the log with nothing above it. A transaction is what a
// coordinator with two participants writes: one forced append before it asks for the
// votes, one with the decision, and a lazy one when all have acknowledged.
func measureLog(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	var m logs
	defer func() { err = errors.Join(err, m.close(context.WithoutCancel(ctx))) }()
	if err := m.open(ctx, dir); err != nil {
		return nil, fmt.Errorf("measure the log: %w", err)
	}
	if err := m.warm(ctx, o); err != nil {
		return nil, fmt.Errorf("measure the log: %w", err)
	}
	for _, clients := range []int{1, 16, 64, 256, 1024} {
		f, err := m.atClients(ctx, o, clients)
		if err != nil {
			return nil, fmt.Errorf("measure the log with %d clients: %w", clients, err)
		}
		figures = append(figures, f...)
	}
	f, err := m.retention(ctx, o, 1024)
	if err != nil {
		return nil, fmt.Errorf("measure the log's retention: %w", err)
	}
	return append(figures, f), nil
}

// logs are what is compared: a log that keeps no outcomes, one that does, what one
// goroutine can write at most, and bbolt used the obvious way.
type logs struct {
	off, kept *loadedLog
	raw       *rawLog
	plain     *plain
}

func (m *logs) open(ctx context.Context, dir string) (err error) {
	if m.off, err = openLog(ctx, filepath.Join(dir, "off.db"), -1); err != nil {
		return err
	}
	if m.kept, err = openLog(ctx, filepath.Join(dir, "kept.db"), 0); err != nil {
		return err
	}
	if m.raw, err = openRaw(ctx, filepath.Join(dir, "raw.db")); err != nil {
		return err
	}
	m.plain, err = openPlain(dir)
	return err
}

// warm brings all to where files do not grow any more: a block that is written for the
// first time makes an fdatasync wait for the file system's journal.
func (m *logs) warm(ctx context.Context, o Options) error {
	o.Progress("warming up")
	const many = 1024
	if _, err := load(ctx, many, o.Slice, m.off.transaction); err != nil {
		return err
	}
	_, err := m.raw.load(ctx, many, o.Slice)
	return err
}

func (m *logs) close(ctx context.Context) error {
	var errs []error
	for _, l := range []*loadedLog{m.off, m.kept} {
		if l != nil {
			errs = append(errs, l.log.Close(ctx), l.store.Close())
		}
	}
	if m.raw != nil {
		errs = append(errs, m.raw.store.Close())
	}
	if m.plain != nil {
		errs = append(errs, m.plain.close())
	}
	return errors.Join(errs...)
}

// The aims, by number of clients.
var (
	rawAims    = map[int]float64{1: 0.9, 16: 0.75, 64: 0.6, 256: 0.5, 1024: 0.35}
	updateAims = map[int]float64{16: 15, 256: 100, 1024: 200}
)

// Few clients take turns more often: it is the disk that they wait for, whose speed
// changes within a slice, and they leave no queue to run down at the end of one.
const (
	fewClients = 64
	shorter    = 4
)

// updatesPerTransaction of the log: the two forced appends and the lazy one.
const updatesPerTransaction = 3

// twoUpdates is timed as a pair because a transaction is one: the middle of sums is not
// the sum of middles where some take far longer than others.
func (m *logs) twoUpdates(ctx context.Context) error {
	return errors.Join(m.plain.record(ctx), m.plain.record(ctx))
}

func (m *logs) atClients(ctx context.Context, o Options, clients int) ([]Figure, error) {
	if clients <= fewClients {
		o.Rounds, o.Slice = o.Rounds*shorter, o.Slice/shorter
	}
	var rates, toRaw, toUpdate, commits, written []float64
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("%d clients, round %d of %d", clients, i+1, o.Rounds))
		before, err := bytesWritten()
		if err != nil {
			return nil, err
		}
		log, err := load(ctx, clients, o.Slice, m.off.transaction)
		if err != nil {
			return nil, err
		}
		after, err := bytesWritten()
		if err != nil {
			return nil, err
		}
		raw, err := m.raw.load(ctx, clients, o.Slice)
		if err != nil {
			return nil, err
		}
		// Clients of the plain side only wait for each other: one does as much.
		updates, err := load(ctx, 1, o.Slice, m.twoUpdates)
		if err != nil {
			return nil, err
		}
		rates, toRaw = append(rates, log.perSecond), append(toRaw, log.perSecond/raw)
		toUpdate = append(toUpdate, log.perSecond/(2*updates.perSecond/updatesPerTransaction))
		commits = append(commits, 2*float64(log.p50)/float64(updates.p50))
		written = append(written, float64(after-before)/float64(log.transactions))
	}
	name := func(what string) string { return fmt.Sprintf("log.%s.c%d", what, clients) }
	figures := []Figure{told(name("rate"), median(rates), "tx/s", fmt.Sprintf("transactions per second of the log alone, %d clients", clients))}
	if clients == 1 {
		figures = append(figures, atMost(name("p50_commits"), median(commits), "commits", 2.1, "two forced appends of one client, in bbolt commits"))
	}
	figures = append(figures, atLeast(name("raw_ratio"), median(toRaw), "times", rawAims[clients], "the same to one goroutine that commits such batches, nobody waiting"))
	if aim, ok := updateAims[clients]; ok {
		figures = append(figures, atLeast(name("update_ratio"), median(toUpdate), "times", aim, "the same to one db.Update for each of 3 appends"))
	}
	if clients == 1024 && bytesKnown {
		figures = append(figures, atMost(name("bytes_per_tx"), median(written), "B", 300, "given to write calls for each transaction (wchar of /proc/self/io)"))
	}
	return figures, nil
}

// retention compares a log that keeps outcomes as by default with one that keeps
// none, once so many are kept that each new one makes an old one go.
func (m *logs) retention(ctx context.Context, o Options, clients int) (Figure, error) {
	for m.kept.log.Stats().Bytes < 64<<20 {
		o.Progress("filling a log with outcomes")
		if _, err := load(ctx, clients, o.Slice, m.kept.transaction); err != nil {
			return Figure{}, err
		}
	}
	var costs []float64
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("with outcomes, round %d of %d", i+1, o.Rounds))
		kept, err := load(ctx, clients, o.Slice, m.kept.transaction)
		if err != nil {
			return Figure{}, err
		}
		off, err := load(ctx, clients, o.Slice, m.off.transaction)
		if err != nil {
			return Figure{}, err
		}
		costs = append(costs, 100*(1-kept.perSecond/off.perSecond))
	}
	return atMost("log.retention_cost", median(costs), "%", 15, fmt.Sprintf("throughput lost to keeping outcomes, %d clients", clients)), nil
}

// loadedLog is a log of its own.
type loadedLog struct {
	store *bolt.Store
	log   *wal.Log
	ids   atomic.Uint64
}

func openLog(ctx context.Context, path string, retention time.Duration) (*loadedLog, error) {
	store, err := bolt.Open(path, nil)
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
	store, err := bolt.Open(path, nil)
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

// bytesWritten is what the process has given to write calls so far; 0 where that
// can't be known.
func bytesWritten() (int64, error) {
	if !bytesKnown {
		return 0, nil
	}
	text, err := os.ReadFile(ioCounters)
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("wchar: "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("bytes written in %s: %w", ioCounters, err)
	}
	return n, nil
}

const ioCounters = "/proc/self/io"

var bytesKnown = func() bool {
	_, err := os.Stat(ioCounters)
	return err == nil
}()
