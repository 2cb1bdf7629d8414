package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Inheritance is what former coordinators left, and is now in the own term.
type Inheritance struct {
	// Transactions are the live and the retained ones, in the order of their ids.
	Transactions []Inherited
}

// Inherited is a transaction found in the log. It is retained if State.Completed
// is not zero, else live.
type Inherited struct {
	State *record.State
	Tx    *Tx
	// Epoch is that of the takeover, the highest one if it was read from several
	// terms (R9).
	Epoch uint64
}

// Open makes a fresh term in the store, takes over every term without an owner,
// re-writes what is still needed of them into its own, deletes them, and starts
// the log's writer. When it returns, all of that is durable. It may be interrupted
// anywhere and be called again.
//
// Outcomes whose retention has ended, or which exceed the bytes retained, are
// forgotten on the way, the oldest first; Config.Forgotten is not told.
//
// An error Is ErrForeign, ErrDamaged, ErrNewer, or one of the store's.
func Open(ctx context.Context, store Store, config Config) (*Log, *Inheritance, error) {
	if err := config.validate(); err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	h := &heir{
		config: config,
		terms:  make(map[participant.Term]record.TermMarks),
		found:  make(map[participant.TxID]*found),
	}
	l, inherited, err := h.open(ctx, store)
	if err != nil {
		h.release(ctx)
		return nil, nil, fmt.Errorf("open log of domain %s: %w", config.Domain, err)
	}
	go l.run()
	return l, inherited, nil
}

func (h *heir) open(ctx context.Context, store Store) (*Log, *Inheritance, error) {
	if err := h.takeOver(ctx, store); err != nil {
		return nil, nil, err
	}
	if err := h.examine(); err != nil {
		return nil, nil, err
	}
	stream, err := store.Open(ctx, h.config.Owner)
	if err != nil {
		return nil, nil, err
	}
	h.own = stream
	l, err := h.newLog(ctx, stream)
	if err != nil {
		return nil, nil, err
	}
	inherited, err := h.rewrite(ctx, l, time.Now())
	if err != nil {
		return nil, nil, err
	}
	// Only now: until here the old terms were the durable ones (R9).
	for _, old := range h.streams {
		if err := old.Delete(ctx); err != nil {
			return nil, nil, fmt.Errorf("delete log term %s: %w", old.Term(), err)
		}
	}
	return l, inherited, nil
}

// heir takes over what other terms left, by merging (R9): neither the order of the
// terms nor of their records matters, nor that some of them were re-written by an
// Open that was interrupted.
type heir struct {
	config  Config
	streams []Stream // taken over
	own     Stream   // of the fresh term
	terms   map[participant.Term]record.TermMarks
	found   map[participant.TxID]*found
}

// found is what was read of one transaction.
type found struct {
	state *record.State
	epoch uint64
	// rooted: the record that a transaction's records begin with is there. Without
	// it they are leftovers of a forgotten one, whose home was dropped.
	rooted bool
	frame  []byte // the Carried record to be written
}

func (h *heir) takeOver(ctx context.Context, store Store) error {
	watch, stop := context.WithCancel(ctx)
	orphans, _, err := store.Orphans(watch)
	stop()
	if err != nil {
		return fmt.Errorf("list log terms: %w", err)
	}
	for _, term := range orphans {
		stream, err := store.TakeOver(ctx, term, h.config.Owner)
		if errors.Is(err, ErrOwned) || errors.Is(err, ErrNoTerm) {
			continue // another coordinator was faster
		}
		if err != nil {
			return fmt.Errorf("take over log term %s: %w", term, err)
		}
		h.streams = append(h.streams, stream)
		h.mark(record.TermMarks{Term: term})
		s := scan{heir: h, term: term, epoch: stream.Epoch()}
		if err := store.Scan(ctx, term, s.segment); err != nil {
			return fmt.Errorf("read log term %s: %w", term, err)
		}
	}
	return nil
}

func (h *heir) mark(m record.TermMarks) {
	known := h.terms[m.Term]
	known.Term = m.Term
	h.terms[m.Term] = known.Merge(m)
}

// scan reads one term.
type scan struct {
	heir  *heir
	term  participant.Term
	epoch uint64
	last  uint64 // the segment read before
}

func (s *scan) segment(seq uint64, data []byte) error {
	if s.last != 0 && seq != s.last+1 {
		return fmt.Errorf("%w: segment %d follows segment %d", ErrDamaged, seq, s.last)
	}
	s.last = seq
	first := true
	for len(data) > 0 {
		var r record.Record
		var err error
		if r, data, err = record.Next(data); err != nil {
			return fmt.Errorf("segment %d: %w", seq, unreadable(err))
		}
		header, isHeader := r.(record.Header)
		switch {
		case isHeader != first:
			err = fmt.Errorf("%w: the header is not the first record", ErrDamaged)
		case isHeader:
			err = s.header(seq, header)
		default:
			err = s.record(r)
		}
		if err != nil {
			return fmt.Errorf("segment %d: %w", seq, err)
		}
		first = false
	}
	if first {
		return fmt.Errorf("segment %d: %w: it is empty", seq, ErrDamaged)
	}
	return nil
}

func unreadable(err error) error {
	if unknown := (*record.UnknownError)(nil); errors.As(err, &unknown) {
		return fmt.Errorf("%w: %w", ErrNewer, err)
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

func (s *scan) header(seq uint64, r record.Header) error {
	if r.Term != s.term || r.Seq != seq {
		return fmt.Errorf("%w: it is segment %d of term %s", ErrDamaged, r.Seq, r.Term)
	}
	s.heir.mark(record.TermMarks{Term: r.Term, Highest: r.Highest, Mark: r.Mark})
	if r.Catalogue == nil {
		return nil
	}
	if r.Catalogue.Domain != s.heir.config.Domain {
		return fmt.Errorf("%w: it belongs to domain %q, not to %q", ErrForeign, r.Catalogue.Domain, s.heir.config.Domain)
	}
	for _, m := range r.Catalogue.Terms {
		s.heir.mark(m)
	}
	return nil
}

func (s *scan) record(r record.Record) error {
	id := r.TxID()
	f := s.heir.found[id]
	if f == nil {
		f = &found{state: record.NewState(id)}
		s.heir.found[id] = f
	}
	f.epoch = max(f.epoch, s.epoch)
	if kind := r.Kind(); kind == record.KindBegun || kind == record.KindCarried {
		f.rooted = true
	}
	if err := f.state.Apply(r); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// examine drops leftovers of forgotten transactions and checks what remains
// against the marks.
func (h *heir) examine() error {
	for id, f := range h.found {
		m, listed := h.terms[id.Term]
		switch {
		case !listed:
			return fmt.Errorf("%w: transaction %s is of a term that the log does not list", ErrDamaged, id)
		case !m.Begun(id.UUID):
			return fmt.Errorf("%w: transaction %s is above %x, the highest of its term", ErrDamaged, id, m.Highest)
		case f.rooted:
		case !m.Forgotten(id.UUID):
			return fmt.Errorf("%w: transaction %s has no beginning and was not forgotten", ErrDamaged, id)
		default:
			delete(h.found, id) // R13
		}
	}
	return nil
}

// newLog returns the log of a fresh term, its writer not started.
func (h *heir) newLog(ctx context.Context, stream Stream) (*Log, error) {
	former := make([]record.TermMarks, 0, len(h.terms))
	for _, m := range h.terms {
		if m.Term >= stream.Term() {
			return nil, fmt.Errorf("%w: the fresh term %s is not above the former term %s", ErrDamaged, stream.Term(), m.Term)
		}
		former = append(former, m)
	}
	slices.SortFunc(former, func(a, b record.TermMarks) int {
		return participant.TxID{Term: a.Term}.Compare(participant.TxID{Term: b.Term})
	})
	l := &Log{
		stream:   stream,
		config:   h.config,
		wake:     make(chan struct{}, 1),
		flush:    time.NewTimer(time.Hour),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),
		failed:   make(chan struct{}),
		segments: newSegments(h.config, stream.Term(), former),
	}
	l.flush.Stop()
	l.ctx, l.abandon = context.WithCancel(context.WithoutCancel(ctx))
	return l, nil
}

// rewrite writes the marks and what is still needed into the own term. Even with
// nothing to inherit the catalogue is written: the term is listed from now on.
func (h *heir) rewrite(ctx context.Context, l *Log, now time.Time) (*Inheritance, error) {
	kept, err := h.keep(&l.segments.marks, now)
	if err != nil {
		return nil, err
	}
	inherited := &Inheritance{Transactions: make([]Inherited, 0, len(kept))}
	q := &queue{}
	for _, k := range kept {
		if len(q.buf)+len(k.frame) > maxBatch {
			if err := l.appendCarried(ctx, q); err != nil {
				return nil, err
			}
		}
		e := entry{tx: &Tx{id: k.state.Tx, inherited: true, begun: true}, size: len(k.frame)}
		if !k.state.Completed.IsZero() {
			e.completed = k.state.Completed.UnixMilli()
		}
		q.buf = append(q.buf, k.frame...)
		q.entries = append(q.entries, e)
		k.frame = nil
		inherited.Transactions = append(inherited.Transactions, Inherited{State: k.state, Tx: e.tx, Epoch: k.epoch})
	}
	return inherited, l.appendCarried(ctx, q)
}

// appendCarried appends carried records to the own term.
func (l *Log) appendCarried(ctx context.Context, q *queue) error {
	l.segments.add(q.entries, q.buf)
	if err := l.write(ctx); err != nil {
		return err
	}
	l.publish(0)
	q.buf, q.entries = q.buf[:0], q.entries[:0]
	return nil
}

// keep returns what is to be re-written, in the order of ids, and raises the marks
// for what is not.
func (h *heir) keep(m *marks, now time.Time) ([]*found, error) {
	var kept, ended []*found
	for _, f := range h.found {
		var err error
		if f.frame, err = record.Append(nil, record.Carried{State: *f.state}); err != nil {
			return nil, err
		}
		if f.state.Completed.IsZero() {
			kept = append(kept, f)
		} else {
			ended = append(ended, f)
		}
	}
	slices.SortFunc(ended, func(a, b *found) int { return b.state.Completed.Compare(a.state.Completed) })
	retained := int64(0)
	for _, f := range ended {
		retained += int64(len(f.frame))
		age := now.Sub(f.state.Completed)
		if age >= h.config.Retention || retained > h.config.RetainBytes && age >= h.config.RetainAtLeast {
			m.forget(f.state.Tx, m.own.Term)
		} else {
			kept = append(kept, f)
		}
	}
	slices.SortFunc(kept, func(a, b *found) int { return a.state.Tx.Compare(b.state.Tx) })
	return kept, nil
}

// release gives up what was taken over, and what was written of it, for the next
// Open to merge.
func (h *heir) release(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer stop()
	for _, stream := range append(h.streams, h.own) {
		if stream != nil {
			// That it fails changes nothing: the terms stay as they are.
			_ = stream.Release(ctx)
		}
	}
}
