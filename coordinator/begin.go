package coordinator

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

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

// with returns the options changed. It stands alone because what options change goes
// to the heap.
func (o beginOptions) with(options []BeginOption) beginOptions {
	for _, option := range options {
		option(&o)
	}
	return o
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
// Errors: ErrLimit for MaxOpen undecided transactions or too long attributes, and
// ErrLogFull for a log without room; ErrClosed, ErrSafeMode; ErrLogFailed or
// ErrNotOwner once the log has failed; ctx's error if it has ended already. A
// timeout that is not positive is an error of its own.
func (d *DTM) Begin(ctx context.Context, options ...BeginOption) (participant.TxID, error) {
	o := beginOptions{timeout: d.config.Timeout}
	if len(options) > 0 {
		o = o.with(options)
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
		return nil, fmt.Errorf("timeout %s is not positive", o.timeout)
	}
	if key := keyOf(o.attributes); key.id != "" {
		return d.requests.begin(ctx, key, d.table, func() (*transaction, error) { return d.beginNew(o) })
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
		id: id, epoch: d.log.Epoch(), place: d.log.NewPlace(id), deadline: now.Add(o.timeout), limit: d.deadlines.tick(now.Add(o.timeout)), counted: true,
		begun: record.Begun{Tx: id, At: now, Timeout: o.timeout, Attributes: o.attributes},
	}
	machine, effects := protocol.New(t.begun)
	t.machine = machine
	batch, err := d.append(t, &effects.All()[0])
	if err == nil && d.config.ForceEveryTransition && d.result(t, batch) != protocol.Durable {
		err = refusedForLog(t.failure)
	}
	if err != nil {
		d.open.Add(-1)
		return nil, err
	}
	d.table.put(t) // before it can be woken: what is to end must be there
	// Woken for the earliest of all limits it may get, it does not have to be moved
	// for each.
	d.deadlines.noLaterThan(t, d.deadlines.tick(now.Add(min(o.timeout, d.config.CallTimeout, max(d.config.CommitWait, quantum)))))
	d.config.Trace.begun(id)
	return t, nil
}
