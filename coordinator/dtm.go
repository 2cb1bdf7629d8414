package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// DTM is a distributed transaction manager: a coordinator with its log. Make one
// with Open. Safe for concurrent use.
type DTM struct {
	config Config
	logger *zap.Logger
	log    *wal.Log

	// ctx is the life of the coordinator's own work.
	ctx    context.Context
	cancel context.CancelCauseFunc

	registry    participant.Registry
	table       *table
	requests    requests
	completions completions
	recovering  recovering
	open        atomic.Int64 // undecided transactions of this coordinator
	safeMode    atomic.Pointer[string]

	endpointsMu sync.RWMutex
	endpoints   map[string]*endpoint

	// goroutines are all of the coordinator's that are at work; Close waits for
	// them, and then dismisses the crew.
	crew       crew
	dismissal  sync.Once
	timers     sync.Pool // of *time.Timer, for Commit
	goroutines sync.WaitGroup
	lifeMu     sync.RWMutex
	closing    bool
	halted     atomic.Bool // nothing more is sent
	failed     chan struct{}
}

// enter counts the caller among the goroutines that Close waits for; false once
// that has begun. Every true is followed by one leave.
func (d *DTM) enter() bool {
	d.lifeMu.RLock()
	defer d.lifeMu.RUnlock()
	if d.closing {
		return false
	}
	d.goroutines.Add(1)
	return true
}

func (d *DTM) leave() { d.goroutines.Done() }

// stopped reports whether the coordinator must not send anything any more: it
// ends, or its log has failed (R5).
func (d *DTM) stopped() bool { return d.halted.Load() || d.logFailed() }

func (d *DTM) logFailed() bool {
	select {
	case <-d.log.Failed():
		return true
	default:
		return false
	}
}

// BeginOption says something about a transaction to begin.
type BeginOption func(*beginOptions)

type beginOptions struct {
	timeout    time.Duration
	attributes record.Attributes
}

func (o *beginOptions) set(key, value string) {
	if value == "" {
		return
	}
	if o.attributes == nil {
		o.attributes = make(record.Attributes)
	}
	o.attributes[key] = value
}

// WithName gives the transaction a name for people.
func WithName(name string) BeginOption {
	return func(o *beginOptions) { o.set(record.AttributeName, name) }
}

// WithTimeout sets how long the transaction may stay undecided.
func WithTimeout(timeout time.Duration) BeginOption {
	return func(o *beginOptions) { o.timeout = timeout }
}

// WithRequestID makes Begin idempotent: as long as the outcome is kept, another
// Begin with the same request id and owner returns the same transaction, which may
// be decided already, and its other options count for nothing.
func WithRequestID(id string) BeginOption {
	return func(o *beginOptions) { o.set(record.AttributeRequestID, id) }
}

// WithOwner says whose transaction it is.
func WithOwner(owner string) BeginOption {
	return func(o *beginOptions) { o.set(record.AttributeOwner, owner) }
}

// Begin begins a transaction and returns its id. Nothing needs to be durable yet:
// if a crash loses the transaction, it is rolled back (R3). Name, owner and
// request id have 1 KiB together.
//
// Errors: ErrLimit for MaxOpen undecided transactions, too long attributes, a
// timeout that is not positive, or a log that is too far behind; ErrClosed,
// ErrSafeMode; ErrOutcomeUnknown or ErrNotOwner once the log has failed; ctx's
// error if it has ended already.
func (d *DTM) Begin(ctx context.Context, options ...BeginOption) (participant.TxID, error) {
	o := beginOptions{timeout: d.config.Timeout}
	for _, option := range options {
		option(&o)
	}
	t, err := d.begin(ctx, o)
	if err != nil {
		return participant.TxID{}, fmt.Errorf("begin transaction: %w", err)
	}
	return t.id, nil
}

func (d *DTM) begin(ctx context.Context, o beginOptions) (*transaction, error) {
	if err := d.admits(ctx); err != nil {
		return nil, err
	}
	if !d.enter() {
		return nil, ErrClosed
	}
	defer d.leave()
	if size := o.attributes.Size(); size > record.MaxAttributes {
		return nil, fmt.Errorf("%w: name, owner and request id have %d bytes together, more than %d", ErrLimit, size, record.MaxAttributes)
	}
	if o.timeout <= 0 {
		return nil, fmt.Errorf("%w: timeout %s is not positive", ErrLimit, o.timeout)
	}
	if request := requestKey(o.attributes); request != "" {
		return d.requests.begin(ctx, request, d.table, func() (*transaction, error) { return d.beginNew(o) })
	}
	return d.beginNew(o)
}

// admits returns why no new work is taken, nil if it is.
func (d *DTM) admits(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.Err(); err != nil {
		return err
	}
	if d.safeMode.Load() != nil {
		return d.safeModeError()
	}
	return nil
}

func (d *DTM) beginNew(o beginOptions) (*transaction, error) {
	if open := d.open.Add(1); open > int64(d.config.MaxOpen) {
		d.open.Add(-1)
		return nil, fmt.Errorf("%w: %d transactions are undecided (Config.MaxOpen)", ErrLimit, d.config.MaxOpen)
	}
	unique, err := uuid.NewV7()
	if err != nil {
		d.open.Add(-1)
		return nil, fmt.Errorf("make a transaction id: %w", err)
	}
	now := time.Now()
	id := participant.TxID{Term: d.log.Term(), UUID: unique}
	t := &transaction{
		id: id, epoch: d.log.Epoch(), log: d.log.NewTx(id), deadline: now.Add(o.timeout),
		begun: record.Begun{Tx: id, At: now, Timeout: o.timeout, Attributes: o.attributes},
	}
	machine, effects := protocol.New(t.begun)
	t.machine = machine
	batch, err := d.append(t, effects[0])
	if err == nil && d.config.ForceEveryTransition && d.result(t, batch) != protocol.Durable {
		err = t.failure
	}
	if err != nil {
		d.open.Add(-1)
		return nil, err
	}
	d.table.put(t) // before the timer: what is to end must be there
	t.mu.Lock()
	t.timer = time.AfterFunc(o.timeout, func() { d.expire(t) })
	t.mu.Unlock()
	d.config.Trace.begun(id)
	return t, nil
}

// expire tells the machine that the time for a decision has passed. What it does
// with that is for R2, R3 and R8 to say.
func (d *DTM) expire(t *transaction) {
	if !d.enter() {
		return
	}
	defer d.leave()
	t.mu.Lock()
	reason := fmt.Sprintf("not decided within %s", t.begun.Timeout)
	if t.machine.Phase() == protocol.Preparing && time.Now().Before(t.deadline) {
		reason = fmt.Sprintf("votes missing after %s: %s", d.config.CallTimeout, t.silent())
	}
	t.mu.Unlock()
	d.decideBy(t, protocol.DeadlinePassed(reason))
}

// decideBy drives an event that may decide a rollback.
func (d *DTM) decideBy(t *transaction, ev protocol.Event) {
	if err := d.drive(t, ev); err != nil {
		d.logger.Error("transaction refused an event", zap.Stringer("tx", t.id), zap.Error(err))
	}
}

// find returns the transaction with this id. If the table does not hold it, why
// says what that means (R13): a *RolledBackError, ErrForgotten, ErrNotFound or
// ErrSafeMode.
func (d *DTM) find(id participant.TxID) (t *transaction, why error) {
	if t = d.table.get(id); t != nil {
		return t, nil
	}
	absence := d.log.Absent(id)
	// The table again: the transaction may have been put there meanwhile.
	if t = d.table.get(id); t != nil {
		return t, nil
	}
	switch absence {
	case wal.AbsentForgotten:
		return nil, fmt.Errorf("transaction %s: %w", id, ErrForgotten)
	case wal.AbsentUndecided:
		if d.safeMode.Load() != nil {
			return nil, fmt.Errorf("transaction %s: %w", id, d.safeModeError())
		}
		return nil, &RolledBackError{Tx: id, Cause: record.CausePresumed}
	default:
		return nil, fmt.Errorf("transaction %s: %w", id, ErrNotFound)
	}
}

// Failed is closed when the log has failed or another coordinator took the term
// over. Nothing is sent after that; the program should close the coordinator and
// open it anew, which says what became of transactions whose outcome is unknown.
func (d *DTM) Failed() <-chan struct{} { return d.failed }

// Err returns why the coordinator takes no more work: the log's failure or
// ErrClosed; nil while it works.
func (d *DTM) Err() error {
	if err := d.log.Err(); err != nil {
		if errors.Is(err, wal.ErrFenced) {
			return fmt.Errorf("%w: %w", ErrNotOwner, err)
		}
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	d.lifeMu.RLock()
	defer d.lifeMu.RUnlock()
	if d.closing {
		return ErrClosed
	}
	return nil
}

func (d *DTM) safeModeError() error {
	if proof := d.safeMode.Load(); proof != nil {
		return fmt.Errorf("%w: %s", ErrSafeMode, *proof)
	}
	return ErrSafeMode
}
