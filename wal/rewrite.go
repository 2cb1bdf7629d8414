package wal

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/assent-tm/assent/wal/record"
)

// rewrite writes the marks and what is still needed into the own term. Even with
// nothing to inherit the catalogue is written: the term is listed from now on.
func (t *taker) rewrite(ctx context.Context, l *Log, now time.Time) ([]Inherited, error) {
	kept, err := t.keep(&l.segments.marks, now)
	if err != nil {
		return nil, err
	}
	inherited := make([]Inherited, 0, len(kept))
	w := carrier{log: l, after: t.deleteRedundant, written: make(chan error, 1)}
	w.written <- nil
	q, spare := &queue{}, &queue{}
	var frame []byte
	for _, f := range kept {
		if frame, err = record.Append(frame[:0], record.Carried{State: f.state}); err != nil {
			return nil, errors.Join(err, w.wait())
		}
		if len(q.buf)+len(frame) > t.config.sizes.maxBatch {
			if err := w.write(ctx, q); err != nil {
				return nil, err
			}
			q, spare = spare, q
		}
		e := entry{tx: &Place{id: f.state.Tx, inherited: true, begun: true}, size: len(frame)}
		if f.state.Completed.IsZero() {
			e.tx.frames = make([]byte, 0, len(frame)) // little comes after the whole state
		} else {
			e.completed = f.state.Completed.UnixMilli()
		}
		q.buf = append(q.buf, frame...)
		q.entries = append(q.entries, e)
		inherited = append(inherited, Inherited{State: &f.state, Place: e.tx, Epoch: f.epoch})
	}
	if err := w.write(ctx, q); err != nil {
		return nil, err
	}
	return inherited, w.wait()
}

// carrier appends carried records to the own term: one queue is written while the
// next is filled.
type carrier struct {
	log *Log
	// after is called when an append is durable; the catalogue is in the first.
	after   func(context.Context) error
	written chan error // of the queue before
}

// write begins to append a queue, once the one before is durable. Until the next
// write, or wait, nothing else may use the queue or the log.
func (w *carrier) write(ctx context.Context, q *queue) error {
	if err := w.wait(); err != nil {
		return err
	}
	go func() {
		err := w.log.appendCarried(ctx, q)
		if err == nil {
			err = w.after(ctx)
		}
		w.written <- err
	}()
	return nil
}

// wait returns when nothing is being written.
func (w *carrier) wait() error { return <-w.written }

// appendCarried appends carried records to the own term.
func (l *Log) appendCarried(ctx context.Context, q *queue) error {
	l.segments.add(q.entries, q.buf)
	if err := l.write(ctx); err != nil {
		return err
	}
	l.publish(q)
	q.buf, q.entries = q.buf[:0], q.entries[:0]
	return nil
}

// keep returns what is to be re-written, in the order of ids, and raises the marks
// for what is not.
func (t *taker) keep(m *marks, now time.Time) ([]*found, error) {
	var kept, ended []*found
	for _, f := range t.found {
		if f.state.Completed.IsZero() {
			kept = append(kept, f)
		} else {
			ended = append(ended, f)
		}
	}
	slices.SortFunc(ended, func(a, b *found) int {
		return cmp.Or(b.state.Completed.Compare(a.state.Completed), b.state.Tx.Compare(a.state.Tx))
	})
	var frame []byte
	var err error
	retained := int64(0)
	for _, f := range ended {
		if frame, err = record.Append(frame[:0], record.Carried{State: f.state}); err != nil {
			return nil, err
		}
		retained += int64(len(frame))
		age := now.Sub(f.state.Completed)
		// In quarantine everything counts that an operator may compare (R10).
		if t.words.Quarantined() {
			kept = append(kept, f)
		} else if age >= t.config.Retention || retained > t.config.RetainBytes && age >= t.config.RetainAtLeast {
			m.forget(f.state.Tx, m.own.Term)
		} else {
			kept = append(kept, f)
		}
	}
	slices.SortFunc(kept, func(a, b *found) int { return a.state.Tx.Compare(b.state.Tx) })
	return kept, nil
}
