package bench

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
)

// recoveryRounds is the number of times each figure of recovery is measured.
const recoveryRounds = 5

var recoveryArea = area{
	name: "recovery",
	figures: []string{
		"recovery.ns_per_tx", "recovery.store_ns_per_tx", "recovery.cpu_ns_per_tx", "recovery.scan_ns_per_tx", "recovery.open_ratio",
		"recovery.bytes_per_tx",
		"recovery.100k_s", "recovery.hang_ratio",
	},
	measure: measureRecovery,
	about:   func(o Options) time.Duration { return time.Duration(o.transactionsInDoubt()) * 70 * time.Microsecond },
}

// transactionsInDoubt is how many transactions are replayed. A tenth of them are
// resolved.
func (o Options) transactionsInDoubt() int {
	switch {
	case o.inDoubt > 0:
		return o.inDoubt
	case o.Quick:
		return 100_000
	default:
		return 1_000_000
	}
}

// measureRecovery measures how long a coordinator needs for what a crash left.
func measureRecovery(ctx context.Context, o Options, dir string) ([]Figure, error) {
	many := o.transactionsInDoubt()
	replay, err := measureReplay(ctx, o, filepath.Join(dir, "replay.db"), many)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	resolve, err := measureResolve(ctx, o, filepath.Join(dir, "resolve.db"), many/10)
	if err != nil {
		return nil, fmt.Errorf("resolve: %w", err)
	}
	return append(replay, resolve...), nil
}

// replayed is what it cost to open a log that a crash left.
type replayed struct {
	store, log time.Duration // bolt.Open, wal.Open
	cpu        time.Duration // of both
	heap       int64         // bytes that are live afterwards
}

func measureReplay(ctx context.Context, o Options, path string, n int) ([]Figure, error) {
	o.Progress(fmt.Sprintf("replay: making a log with %d transactions in doubt", n))
	if err := leaveInDoubt(ctx, path, n, 0); err != nil {
		return nil, err
	}
	var all []replayed
	var scans, ratios []float64
	for i := range recoveryRounds {
		o.Progress(fmt.Sprintf("replay, round %d of %d", i+1, recoveryRounds))
		scan, err := scanPlainly(path)
		if err != nil {
			return nil, err
		}
		r, err := replayCopy(ctx, path, n)
		if err != nil {
			return nil, err
		}
		all, scans, ratios = append(all, r), append(scans, float64(scan)), append(ratios, float64(r.store+r.log)/float64(scan))
	}
	each := func(what func(replayed) float64) float64 {
		values := make([]float64, len(all))
		for i, r := range all {
			values[i] = what(r)
		}
		return median(values) / float64(n)
	}
	return []Figure{
		atMost("recovery.ns_per_tx", each(func(r replayed) float64 { return float64(r.store + r.log) }), "ns", 4000,
			fmt.Sprintf("open the log a crash left, for each of %d transactions in doubt", n)),
		told("recovery.store_ns_per_tx", each(func(r replayed) float64 { return float64(r.store) }), "ns", "of that, to check and copy the file"),
		told("recovery.cpu_ns_per_tx", each(func(r replayed) float64 { return float64(r.cpu) }), "ns", "the same in processor time, garbage collection included"),
		told("recovery.scan_ns_per_tx", median(scans)/float64(n), "ns", "to scan the same file with bbolt and keep nothing"),
		told("recovery.open_ratio", median(ratios), "times", "the first of these to the last"),
		atMost("recovery.bytes_per_tx", each(func(r replayed) float64 { return float64(r.heap) }), "bytes", 600, "live heap afterwards, for each"),
	}, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// scanPlainly reads every byte of all keys and values in the file at path.
func scanPlainly(path string) (took time.Duration, err error) {
	start := time.Now()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, fmt.Errorf("open %s to scan it: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	size, sum := 0, uint32(0)
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error {
			return bucket.ForEach(func(key, value []byte) error {
				size += len(key) + len(value)
				sum = crc32.Update(crc32.Update(sum, castagnoli, key), castagnoli, value)
				return nil
			})
		})
	})
	if err == nil && (size == 0 || sum == 0) {
		err = fmt.Errorf("scan %s: %d bytes with checksum %x", path, size, sum)
	}
	return time.Since(start), err
}

// replayCopy opens a copy of the log at path, which holds n transactions.
func replayCopy(ctx context.Context, path string, n int) (r replayed, err error) {
	path, remove, err := copyLog(path)
	if err != nil {
		return replayed{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	before, idle, start := liveHeap(), used(), time.Now()
	store, err := bolt.Open(path, anywhere)
	if err != nil {
		return replayed{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	opened := time.Now()
	log, inherited, err := wal.Open(ctx, store, logConfig)
	if err != nil {
		return replayed{}, err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	r = replayed{store: opened.Sub(start), log: time.Since(opened), cpu: used().since(idle).cpu}
	r.heap = liveHeap() - before
	runtime.KeepAlive(log)
	if runtime.KeepAlive(inherited); len(inherited) != n {
		return replayed{}, fmt.Errorf("%d transactions in the log, want %d", len(inherited), n)
	}
	return r, nil
}

// hanging is the participant that may hang. One transaction of hangingShare
// enlisted it, besides the two that all have.
const (
	hanging      = "bank_c"
	hangingShare = 4
)

func measureResolve(ctx context.Context, o Options, path string, n int) ([]Figure, error) {
	o.Progress(fmt.Sprintf("recovery: making logs with %d transactions in doubt", n))
	shared := path + ".hanging"
	if err := errors.Join(leaveInDoubt(ctx, path, n, 0), leaveInDoubt(ctx, shared, n, hangingShare)); err != nil {
		return nil, err
	}
	var all, ratios []float64
	for i := range recoveryRounds {
		o.Progress(fmt.Sprintf("recovery, round %d of %d", i+1, recoveryRounds))
		whole, err := resolveCopy(ctx, path, n, nobodyElse)
		if err != nil {
			return nil, err
		}
		// Either way the branches of the participant that hangs stay in doubt.
		absent, err := resolveCopy(ctx, shared, n, oneAbsent)
		if err != nil {
			return nil, err
		}
		hung, err := resolveCopy(ctx, shared, n, oneHangs)
		if err != nil {
			return nil, err
		}
		all = append(all, whole.Seconds()*100_000/float64(n))
		ratios = append(ratios, float64(hung)/float64(absent))
	}
	return []Figure{
		atMost("recovery.100k_s", median(all), "s", 3, fmt.Sprintf("start to end of 100000 transactions in doubt, reckoned from %d", n)),
		atMost("recovery.hang_ratio", median(ratios), "times", 1.1, "start to the last branch of two participants while a third one hangs, to the same while it is not there"),
	}, nil
}

// company is whom the two participants that all transactions enlisted share the log
// with.
type company int

const (
	nobodyElse company = iota
	oneAbsent          // the third participant is not registered
	oneHangs
)

// resolveCopy recovers a copy of the log at path, which holds n transactions. It
// returns how long after the start all of them had ended, or, in company, how long
// until the last branch of the two participants was told.
func resolveCopy(ctx context.Context, path string, n int, with company) (took time.Duration, err error) {
	path, remove, err := copyLog(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	told, let := newToll(2*n), make(chan struct{})
	participants := []participant.Participant{told.participant("bank_a"), told.participant("bank_b")}
	if with == oneHangs {
		participants = append(participants, hangs(let))
	}
	runtime.GC()
	start := time.Now()
	store, err := bolt.Open(path, anywhere)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	dtm, err := coordinator.Open(ctx, coordinator.Config{Domain: logConfig.Domain, Store: store, Participants: participants})
	if err != nil {
		return 0, err
	}
	defer func() {
		close(let)
		err = errors.Join(err, dtm.Close(context.WithoutCancel(ctx)))
	}()
	select {
	case <-told.all:
		took = told.at.Sub(start)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if with == nobodyElse {
		err = dtm.WaitRecovered(ctx)
		took = time.Since(start)
	}
	return took, err
}

func hangs(until <-chan struct{}) participant.Participant {
	wait := func(context.Context, participant.TxID) error {
		<-until // and not until its context ends
		return nil
	}
	return participant.Func(hanging, yes, wait, wait)
}

func yes(context.Context, participant.TxID) (bool, error) { return true, nil }

// toll counts the branches that were told how they end.
type toll struct {
	left atomic.Int64
	at   time.Time
	all  chan struct{} // closed at the last one
}

func newToll(branches int) *toll {
	t := &toll{all: make(chan struct{})}
	t.left.Store(int64(branches))
	return t
}

func (t *toll) participant(name string) participant.Participant {
	count := func(context.Context, participant.TxID) error {
		if t.left.Add(-1) == 0 {
			t.at = time.Now()
			close(t.all)
		}
		return nil
	}
	return participant.Func(name, yes, count, count)
}
