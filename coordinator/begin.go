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
type BeginOption func(*BeginOptions)

// BeginOptions is what options make of a transaction to begin: for those who take
// options, as Begin does, and send them elsewhere.
type BeginOptions struct {
	// Name is for people.
	Name string
	// Owner says whose transaction it is.
	Owner string
	// RequestID makes Begin idempotent; see WithRequestID.
	RequestID string
	// Timeout is how long the transaction may stay undecided; 0 means
	// Config.Timeout.
	Timeout time.Duration
}

// with returns the options changed. It stands alone because what options change goes
// to the heap.
func (o BeginOptions) with(options []BeginOption) BeginOptions {
	for _, option := range options {
		option(&o)
	}
	return o
}

// attributes are the options' part of the record; nil if there is nothing to say.
func (o *BeginOptions) attributes(submission string) (a record.Attributes) {
	for _, text := range [...]struct{ key, value string }{
		{record.AttributeName, o.Name},
		{record.AttributeOwner, o.Owner},
		{record.AttributeRequestID, o.RequestID},
		{record.AttributeSubmission, submission},
	} {
		if text.value == "" {
			continue
		}
		if a == nil {
			a = make(record.Attributes)
		}
		a[text.key] = text.value
	}
	return a
}

// WithName gives the transaction a name for people.
func WithName(name string) BeginOption { return func(o *BeginOptions) { o.Name = name } }

// WithTimeout sets how long the transaction may stay undecided; 0 means
// Config.Timeout.
func WithTimeout(timeout time.Duration) BeginOption {
	return func(o *BeginOptions) { o.Timeout = timeout }
}

// WithRequestID makes Begin idempotent: as long as the outcome is kept, another
// Begin with the same request id and owner returns the same transaction, which may
// be decided already, and its other options count for nothing. Submit does the same
// with request ids of its own.
func WithRequestID(id string) BeginOption { return func(o *BeginOptions) { o.RequestID = id } }

// WithOwner says whose transaction it is.
func WithOwner(owner string) BeginOption { return func(o *BeginOptions) { o.Owner = owner } }

// Begin begins a transaction and returns its id. Nothing needs to be durable yet:
// if a crash loses the transaction, it is rolled back (R3). Name, owner and
// request id have 1 KiB together.
//
// Errors: ErrLimit for MaxOpen undecided transactions, MaxOpenPerOwner of the owner or
// too long attributes, and ErrLogFull for a log without room; ErrConflict for the request id of a Submit;
// ErrClosed, ErrSafeMode; ErrLogFailed or ErrNotOwner once the log has failed; ctx's
// error if it has ended already. A negative timeout is an error of its own.
func (d *DTM) Begin(ctx context.Context, options ...BeginOption) (participant.TxID, error) {
	var o BeginOptions
	if len(options) > 0 {
		o = o.with(options)
	}
	t, err := d.begin(ctx, o)
	if err != nil {
		return participant.TxID{}, fmt.Errorf("begin transaction: %w", err)
	}
	return t.id, nil
}

func (d *DTM) begin(ctx context.Context, o BeginOptions) (*transaction, error) {
	if err := d.admits(ctx); err != nil {
		return nil, err
	}
	if !d.enter() {
		return nil, ErrClosed
	}
	defer d.leave()
	return d.beginWith(ctx, o, nil)
}

// beginWith returns a transaction with what is submitted, nil for nothing: a new one,
// unless there is one of the same request.
func (d *DTM) beginWith(ctx context.Context, o BeginOptions, s *submission) (*transaction, error) {
	if o.Timeout == 0 {
		o.Timeout = d.config.Timeout
	}
	if o.Timeout < 0 {
		return nil, fmt.Errorf("timeout %s is negative", o.Timeout)
	}
	if o.RequestID == "" {
		return d.beginNew(o.Timeout, o.attributes(""), s)
	}
	attributes := o.attributes(s.fingerprint())
	t, err := d.requests.begin(ctx, keyOf(attributes), d.table, func() (*transaction, error) {
		return d.beginNew(o.Timeout, attributes, s)
	})
	if err == nil && t.begun.Attributes[record.AttributeSubmission] != attributes[record.AttributeSubmission] {
		return nil, fmt.Errorf("%w: request id %q is that of transaction %s, which was begun otherwise", ErrConflict, o.RequestID, t.id)
	}
	return t, err
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

func (d *DTM) beginNew(timeout time.Duration, attributes record.Attributes, s *submission) (*transaction, error) {
	if size := attributes.Size(); size > record.MaxAttributes {
		return nil, fmt.Errorf("%w: name, owner and request id have %d bytes together, more than %d", ErrLimit, size, record.MaxAttributes)
	}
	if s != nil {
		if err := d.refused(s); err != nil {
			return nil, err
		}
	}
	if err := d.countOpen(attributes); err != nil {
		return nil, err
	}
	unique, err := uuid.NewV7()
	if err != nil {
		d.uncountOpen(attributes)
		return nil, fmt.Errorf("make a transaction id: %w", err)
	}
	now := time.Now()
	id := participant.TxID{Term: d.log.Term(), UUID: unique}
	t := &transaction{
		id: id, epoch: d.log.Epoch(), place: d.log.NewPlace(id), deadline: now.Add(timeout), limit: d.deadlines.tick(now.Add(timeout)), counted: true,
		begun: record.Begun{Tx: id, At: now, Timeout: timeout, Attributes: attributes},
	}
	machine, effects := protocol.New(t.begun)
	t.machine = machine
	batch, err := d.append(t, &effects.All()[0])
	if err == nil && d.config.ForceEveryTransition && d.result(t, batch) != protocol.Durable {
		err = refusedForLog(t.failure)
	}
	if err != nil {
		d.uncountOpen(attributes)
		return nil, err
	}
	if s != nil {
		err = d.joinSubmitted(t, s) // before anybody else can find it, and commit less than that
	}
	d.table.put(t) // before it can be woken: what is to end must be there
	// Woken for the earliest of all limits it may get, it does not have to be moved
	// for each.
	d.deadlines.noLaterThan(t, d.deadlines.tick(now.Add(min(timeout, d.config.CallTimeout, max(d.config.CommitWait, quantum)))))
	d.config.Trace.begun(id)
	if s != nil {
		d.traceSubmitted(t, s)
	}
	if err != nil {
		d.drive(t, protocol.RollbackRequested(record.CauseRequested, err.Error()))
		return nil, err
	}
	return t, nil
}
