package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Errors that a Batch tells (R5).
var (
	// ErrUnknown says that the records may or may not be durable. Only opening
	// the log anew says which.
	ErrUnknown = errors.New("log write outcome unknown")
	// ErrPoisoned says that an earlier write failed, and that therefore these
	// records were not written.
	ErrPoisoned = errors.New("log failed earlier, nothing written")
	// ErrFull says that no transaction can begin or grow: the store is too far
	// behind, or lacks the space to end what has begun. What has begun can end. From a
	// write, beside ErrUnknown, it says why that failed.
	ErrFull = errors.New("log is full")
)

const (
	defaultFlushInterval = 20 * time.Millisecond
	defaultRetention     = time.Hour
	defaultRetainBytes   = 64 << 20
)

// Config says whose log it is and how long it keeps what.
type Config struct {
	// Domain is the coordinator's domain; a log belongs to one for ever.
	Domain string
	// Owner names the coordinator to people: host and process id.
	Owner string
	// FlushInterval is how long a lazy record may wait; 0 means 20 ms.
	FlushInterval time.Duration
	// Retention is how long an outcome is kept after Completed; 0 means 1 h,
	// negative not at all. Outcomes go in groups, with later appends: they may
	// stay longer, and do so in an idle log.
	Retention time.Duration
	// RetainBytes is the size of the log beyond which outcomes are forgotten before
	// their Retention ends, though not before RetainAtLeast. 0 means 64 MiB.
	// Segments go in groups, which are on top, and what live transactions need is
	// never dropped: it is re-written once the log is larger than 4 MiB and than
	// twice the bytes of the live ones.
	RetainBytes int64
	// RetainAtLeast is how long an outcome is kept even beyond RetainBytes; 0
	// means no time.
	RetainAtLeast time.Duration
	// Forgotten is told the transactions whose outcome the log does not hold any
	// more, once that and the raised mark are durable (R13). Whoever wrote them
	// calls it, the writer or a client in Batch.Wait; it must not block. May be nil.
	Forgotten func([]participant.TxID)

	sizes sizes // zero: usualSizes
}

func (c *Config) validate() error {
	if err := participant.ValidDomain(c.Domain); err != nil {
		return err
	}
	if c.FlushInterval < 0 || c.RetainBytes < 0 || c.RetainAtLeast < 0 {
		return fmt.Errorf("flush interval %s, retained bytes %d or least retention %s is negative", c.FlushInterval, c.RetainBytes, c.RetainAtLeast)
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = defaultFlushInterval
	}
	switch {
	case c.Retention == 0:
		c.Retention = defaultRetention
	case c.Retention < 0:
		c.Retention = math.MinInt64 // over even if the clock was set back
	}
	if c.RetainBytes == 0 {
		c.RetainBytes = defaultRetainBytes
	}
	if c.sizes == (sizes{}) {
		c.sizes = usualSizes
	}
	return nil
}

// Log is one coordinator's recovery log: its own term of a store. Safe for
// concurrent use.
type Log struct {
	stream Stream
	config Config

	// ctx ends when Close gives up waiting; it is the context of every Append.
	ctx      context.Context
	abandon  context.CancelFunc
	turn     chan struct{} // holds a token while somebody writes
	wake     chan struct{} // buffered: a batch is due
	flush    *time.Timer   // runs while only lazy records wait
	closing  chan struct{}
	stopped  chan struct{} // the writer has ended
	failed   chan struct{}
	release  sync.Once
	closeErr error // what Close returns

	// exhausted, if not nil, is why no transaction begins in this log any more.
	exhausted error

	// These belong to whose turn it is.
	segments *segments
	turns    int

	mu          sync.Mutex
	current     *queue   // takes the next record
	full        []*queue // wait before it, in order
	queued      int      // bytes in current and full
	expected    int      // forced appends that the next batch may get, see settle
	free        []*queue // to be used again
	closeAsked  bool     // closing is closed
	err         error    // why failed is closed
	failedBatch *Batch   // what Append returns after a failure
	begun       uuid.UUID
	durable     marks
	stats       Stats
	room        room
}

// Place is a transaction's place in the log. The log keeps the records of a live one
// in memory, to re-write them when the segment that holds them is to go.
type Place struct {
	id        participant.TxID
	inherited bool
	// begun says that the first record was appended; guarded by Log.mu.
	begun bool

	// The rest belongs to whose turn it is to write.

	// completed says that a Completed record is in the log or in the segment
	// being made: nothing of the transaction has to be carried any more.
	completed bool
	// frames are the records of a live transaction.
	frames []byte
	// home is the oldest segment that holds a record still needed of a live
	// transaction; previous and next link the live ones that are at home there.
	home           *segment
	previous, next *Place
}

// ID returns the transaction's id.
func (tx *Place) ID() participant.TxID { return tx.id }

// Batch is the records that become durable together; all who appended to it share
// it.
type Batch struct {
	log  *Log
	done chan struct{}
	err  error
}

// Done is closed when it is known what became of the records. To call it says that
// somebody waits: forced records are then written at once.
func (b *Batch) Done() <-chan struct{} {
	b.log.handOver()
	return b.done
}

// Wait waits until it is known what became of the records, and returns Err. A caller
// who is alone writes the batch itself, and waits for no other goroutine.
func (b *Batch) Wait() error {
	b.log.lead(b)
	<-b.done
	return b.err
}

// Err says what became of the records; to be called after Done is closed. nil:
// durable. ErrFenced and ErrPoisoned: not written, and nothing will be. ErrUnknown:
// unknown (R5). No error Is two of these.
func (b *Batch) Err() error { return b.err }

func (b *Batch) finish(err error) {
	b.err = err
	close(b.done)
}

// Stats counts what the log holds and did.
type Stats struct {
	// Segments and Bytes are what the own term holds now.
	Segments int
	Bytes    int64
	// LiveBytes is the size of the records of transactions not completed.
	LiveBytes int64
	// Terms is how often the log was opened. TermsUsed is the share that they may come to
	// need of the room for the list of them (R12): above 0.75 no transaction begins
	// (ErrFull and ErrTermsExhausted), above 1 the log can't be opened again.
	Terms     int
	TermsUsed float64
	// Appends, Records and Carried count since Open: segments appended, records
	// of callers in them, and transactions re-written into them.
	Appends int64
	Records int64
	Carried int64
}

// Term returns the number of the log's own term.
func (l *Log) Term() participant.Term { return l.stream.Term() }

// Epoch returns the epoch of the transactions of the own term.
func (l *Log) Epoch() uint64 { return l.stream.Epoch() }

// NewPlace returns the place of a new transaction of the own term. Nothing is logged
// yet. Ids are best given to Append in rising order: the highest one appended
// tells ids that were begun from ids that never were.
func (l *Log) NewPlace(id participant.TxID) *Place { return &Place{id: id} }

// queue is a batch being filled.
type queue struct {
	batch   *Batch
	buf     []byte
	entries []entry
	records int
	forced  int // entries that are forced
	due     bool
	said    []said
}

// entry is what one call of Append added to a queue.
type entry struct {
	tx        *Place
	size      int
	completed int64 // when, in Unix milliseconds; 0 if not
}

var scratch = sync.Pool{New: func() any { return new([]byte) }}

// Append adds records of one transaction, in order, to the next batch; they get
// into one segment. Forced records are written as soon as somebody waits for them, with
// [Batch.Wait] or [Batch.Done], or others come. Lazy ones ride along with the next
// forced ones. All are written after Config.FlushInterval at the latest. Append
// encodes, but never waits for the store.
//
// An error means that nothing was appended: ErrClosed, ErrFull (to Begun and
// Enlisted only), a record that exceeds its limits, or a transaction that does not
// begin with Begun. After the log failed, the returned batch tells so.
func (l *Log) Append(tx *Place, forced bool, recs ...record.Record) (*Batch, error) {
	buf := scratch.Get().(*[]byte)
	defer scratch.Put(buf)
	e, err := l.encode(tx, buf, recs)
	if err != nil {
		return nil, fmt.Errorf("append to transaction %s: %w", tx.id, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return l.failedBatch, nil
	case l.closeAsked:
		return nil, fmt.Errorf("append to transaction %s: %w", tx.id, ErrClosed)
	case !tx.begun && recs[0].Kind() != record.KindBegun:
		// A replay would take it for a leftover, or for damage.
		return nil, fmt.Errorf("append to transaction %s: its first record is %s", tx.id, recs[0].Kind())
	}
	if recs[0].Kind() <= record.KindEnlisted {
		if err := l.admit(e.size); err != nil {
			return nil, fmt.Errorf("append to transaction %s: %w", tx.id, err)
		}
	}
	tx.begun = true
	return l.enqueue(e, *buf, len(recs), forced), nil
}

func (l *Log) encode(tx *Place, buf *[]byte, recs []record.Record) (entry, error) {
	if tx.id.Term != l.stream.Term() && !tx.inherited {
		return entry{}, fmt.Errorf("%w: the log's term is %s", ErrForeign, l.stream.Term())
	}
	if len(recs) == 0 {
		return entry{}, errors.New("no record")
	}
	e := entry{tx: tx}
	b := (*buf)[:0]
	var err error
	for _, r := range recs {
		switch r := r.(type) {
		case record.Completed:
			e.completed = r.At.UnixMilli()
		case record.Header, record.Carried:
			return entry{}, fmt.Errorf("%s records are the log's own", r.Kind())
		}
		if r.TxID() != tx.id {
			return entry{}, fmt.Errorf("%s record of transaction %s", r.Kind(), r.TxID())
		}
		if b, err = record.Append(b, r); err != nil {
			return entry{}, err
		}
	}
	*buf, e.size = b, len(b)
	if e.size > l.config.sizes.maxBatch {
		return entry{}, fmt.Errorf("%d bytes of records are over the limit of %d", e.size, l.config.sizes.maxBatch)
	}
	return e, nil
}

// enqueue adds the entry to the current queue; mu is held.
func (l *Log) enqueue(e entry, b []byte, records int, forced bool) *Batch {
	if q := l.current; q != nil && len(q.buf)+e.size > l.config.sizes.maxBatch {
		l.full = append(l.full, q)
		l.current = nil
		l.signal()
	}
	if l.current == nil {
		l.current = l.newQueue()
		l.flush.Reset(l.config.FlushInterval)
	}
	q := l.current
	if forced {
		q.forced++
		if !l.alone() {
			l.signal()
		}
	}
	q.buf = append(q.buf, b...)
	q.entries = append(q.entries, e)
	q.records += records
	l.queued += e.size
	if id := e.tx.id; !e.tx.inherited && bytes.Compare(id.UUID[:], l.begun[:]) > 0 {
		l.begun = id.UUID
	}
	return q.batch
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default: // the writer has yet to see an earlier one
	}
}

func (l *Log) newQueue() *queue {
	q := &queue{}
	if n := len(l.free); n > 0 {
		q, l.free = l.free[n-1], l.free[:n-1]
	}
	q.batch = &Batch{log: l, done: make(chan struct{})}
	return q
}

// Failed is closed when the log has failed: it is poisoned (R5) or fenced (R9).
// Nothing is written after that.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err returns why the log failed, nil if it has not: ErrFenced, or what made a
// write's outcome unknown.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Stats returns what the log holds and did.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Close writes what is queued, ends the writer and releases the term. If ctx ends
// first the queued records become ErrUnknown; Close may then be called again to
// wait on. The error of a log that failed is why it did. Close does not close the
// store.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	if !l.closeAsked {
		l.closeAsked = true
		close(l.closing)
	}
	l.mu.Unlock()
	select {
	case <-l.stopped:
	case <-ctx.Done():
		l.abandon()
		return fmt.Errorf("close log term %s: %w", l.Term(), ctx.Err())
	}
	l.abandon()
	l.release.Do(func() {
		// Of a poisoned log, too: whoever takes the term over learns what became
		// of the last write (R5).
		err := l.stream.Release(ctx)
		if failure := l.Err(); failure != nil {
			err = failure
		}
		if err != nil {
			l.closeErr = fmt.Errorf("close log term %s: %w", l.Term(), err)
		}
	})
	return l.closeErr
}
