package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Inherited is a transaction that former coordinators left, and that is now in the
// own term. It is retained if State.Completed is not zero, else live.
type Inherited struct {
	State *record.State
	Place *Place
	// Epoch is that of the takeover, the highest one if it was read from several
	// terms (R9).
	Epoch uint64
}

// Open makes a log of what the store holds and starts its writer. The order is what
// makes it safe (R9), and every step is durable when Open returns:
//
//  1. take over every term without an owner, and read each only then: it can't
//     change any more
//  2. merge them, and examine what they say together: a damaged log is refused
//     before anything is written
//  3. open the fresh term
//  4. re-write into it what is still needed of the others
//  5. only then delete them
//
// Until the last step the old terms hold everything: Open may be interrupted
// anywhere and be called again. Before the last two steps it deletes what those that
// were interrupted have re-written, so that the log does not grow with them. It returns what is live and what is retained, in
// the order of ids.
//
// Outcomes whose retention has ended, or which exceed the bytes retained, are
// forgotten on the way, the oldest first; Config.Forgotten is not told.
//
// An error Is ErrForeign, ErrDamaged, ErrNewer, ErrTermsExhausted, or one of the store's, as
// ErrFull for a store without space: nothing is lost then, and Open may be called again.
func Open(ctx context.Context, store Store, config Config) (*Log, []Inherited, error) {
	if err := config.validate(); err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	t := newTaker(config)
	l, inherited, err := t.open(ctx, store)
	if err != nil {
		t.release(ctx)
		return nil, nil, fmt.Errorf("open log of domain %s: %w", config.Domain, err)
	}
	go l.run()
	return l, inherited, nil
}

func (t *taker) open(ctx context.Context, store Store) (*Log, []Inherited, error) {
	// R9: fenced before it is read, and so before anything of it is told.
	if err := t.takeOver(ctx, store); err != nil {
		return nil, nil, err
	}
	if err := t.examine(); err != nil {
		return nil, nil, err
	}
	if err := t.checkTerms(); err != nil {
		return nil, nil, err
	}
	if err := t.deleteListed(ctx); err != nil {
		return nil, nil, err
	}
	stream, err := store.Open(ctx, t.config.Owner)
	if err != nil {
		return nil, nil, err
	}
	t.own = stream
	l, err := t.newLog(ctx, stream)
	if err != nil {
		return nil, nil, err
	}
	inherited, err := t.rewrite(ctx, l, time.Now())
	if err != nil {
		return nil, nil, err
	}
	// Only now: until here the old terms were the durable ones (R9).
	if err := deleteTerms(ctx, &t.streams); err != nil {
		return nil, nil, err
	}
	l.reserve()
	return l, inherited, nil
}

// taker takes over what other terms left, by merging (R9): neither the order of the
// terms nor of their records matters, nor that some of them were re-written by an
// Open that was interrupted.
type taker struct {
	config Config
	// streams and redundant are of the terms taken over and not deleted yet.
	streams   []Stream
	redundant redundant
	own       Stream             // of the fresh term
	terms     []record.TermMarks // in the order of their numbers
	words     record.Words
	reader    *record.Reader
	frame     []byte // room for one
	// found is in the order in which the transactions were first read: nearly that of
	// their ids, and that in which they lie in memory.
	found []*found
	// index gives the place in found, counted from 1, of the last transaction with a
	// key: small, and without pointers, for it may have to hold millions.
	index map[uint64]uint32
	// latest is the one that was read last.
	latest *found
}

// found is what was read of one transaction.
type found struct {
	state record.State
	epoch uint64
	// rooted: the record that a transaction's records begin with is there. Without
	// it they are leftovers of a forgotten one, whose home was dropped.
	rooted bool
	next   uint32 // with the same key in taker.index; 0 for none
	// branches is room for those of state: most transactions have two.
	branches [2]record.Branch
}

func newTaker(config Config) *taker {
	return &taker{
		config: config,
		reader: record.NewReader(),
		index:  make(map[uint64]uint32),
	}
}

func (t *taker) takeOver(ctx context.Context, store Store) error {
	watch, stop := context.WithCancel(ctx)
	orphans, _, err := store.Orphans(watch)
	stop()
	if err != nil {
		return fmt.Errorf("list log terms: %w", err)
	}
	for _, term := range orphans {
		stream, err := store.TakeOver(ctx, term, t.config.Owner)
		if errors.Is(err, ErrOwned) || errors.Is(err, ErrNoTerm) {
			continue // another coordinator was faster
		}
		if err != nil {
			return fmt.Errorf("take over log term %s: %w", term, err)
		}
		t.streams = append(t.streams, stream)
		t.mark(record.TermMarks{Term: term})
		s := scan{taker: t, term: term, epoch: stream.Epoch(), redundant: true}
		if err := store.Scan(ctx, term, s.segment); err != nil {
			return fmt.Errorf("read log term %s: %w", term, err)
		}
		if s.redundant {
			t.streams = t.streams[:len(t.streams)-1]
			t.redundant.add(stream, s.catalogue)
		}
	}
	return nil
}

func (t *taker) mark(m record.TermMarks) {
	i, known := findTerm(t.terms, m.Term)
	if known {
		t.terms[i] = t.terms[i].Merge(m)
	} else {
		t.terms = slices.Insert(t.terms, i, m)
	}
}

// scan reads one term.
type scan struct {
	taker *taker
	term  participant.Term
	epoch uint64
	last  uint64 // the segment read before
	// redundant: every record so far repeats what was read of its transaction before.
	redundant bool
	catalogue *record.Catalogue // the newest one of the term
}

func (s *scan) segment(seq uint64, data []byte) error {
	if s.last != 0 && seq != s.last+1 {
		return fmt.Errorf("%w: segment %d follows segment %d", ErrDamaged, seq, s.last)
	}
	s.last = seq
	first := true
	for len(data) > 0 {
		rest, err := s.taker.reader.Next(data)
		if err != nil {
			return fmt.Errorf("segment %d: %w", seq, unreadable(err))
		}
		frame := data[:len(data)-len(rest)]
		data = rest
		isHeader := s.taker.reader.Kind() == record.KindHeader
		switch {
		case isHeader != first:
			err = fmt.Errorf("%w: the header is not the first record", ErrDamaged)
		case isHeader:
			err = s.header(seq)
		default:
			err = s.record(frame)
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

func (s *scan) header(seq uint64) error {
	r, err := s.taker.reader.Header()
	if err != nil {
		return unreadable(err)
	}
	if r.Term != s.term || r.Seq != seq {
		return fmt.Errorf("%w: it is segment %d of term %s", ErrDamaged, r.Seq, r.Term)
	}
	s.taker.mark(record.TermMarks{Term: r.Term, Highest: r.Highest, Mark: r.Mark})
	if r.Catalogue == nil {
		return nil
	}
	if s.taker.config.Domain == "" {
		s.taker.config.Domain = r.Catalogue.Domain // only of a Read
	}
	if r.Catalogue.Domain != s.taker.config.Domain {
		return fmt.Errorf("%w: it belongs to domain %q, not to %q", ErrForeign, r.Catalogue.Domain, s.taker.config.Domain)
	}
	s.catalogue = r.Catalogue
	s.taker.terms = mergeTerms(s.taker.terms, r.Catalogue.Terms)
	s.taker.words = s.taker.words.Merge(r.Catalogue.Words)
	return nil
}

func (s *scan) record(frame []byte) error {
	f := s.taker.of(s.taker.reader.TxID())
	f.epoch = max(f.epoch, s.epoch)
	s.redundant = s.redundant && s.repeats(f, frame)
	if kind := s.taker.reader.Kind(); kind == record.KindBegun || kind == record.KindCarried {
		f.rooted = true
	}
	if err := s.taker.reader.ApplyTo(&f.state); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// of returns what is found of a transaction. Its records mostly come together.
func (t *taker) of(id participant.TxID) *found {
	if t.latest != nil && t.latest.state.Tx == id {
		return t.latest
	}
	key := indexKey(id)
	first := t.index[key]
	for i := first; i != 0; i = t.found[i-1].next {
		if f := t.found[i-1]; f.state.Tx == id {
			t.latest = f
			return f
		}
	}
	f := &found{state: *record.NewState(id), next: first}
	f.state.Branches = f.branches[:0]
	t.found = append(t.found, f)
	t.index[key] = uint32(len(t.found))
	t.latest = f
	return f
}

// indexKey is a different one for nearly every id: half of a UUID is random.
func indexKey(id participant.TxID) uint64 {
	return uint64(id.Term) ^ binary.BigEndian.Uint64(id.UUID[:8]) ^ binary.BigEndian.Uint64(id.UUID[8:])
}

// examine drops leftovers of forgotten transactions and checks what remains
// against the marks.
func (t *taker) examine() error {
	t.index, t.latest = nil, nil // all is read: only the order counts now
	rooted := t.found[:0]
	for _, f := range t.found {
		id := f.state.Tx
		i, listed := findTerm(t.terms, id.Term)
		if !listed {
			return fmt.Errorf("%w: transaction %s is of a term that the log does not list", ErrDamaged, id)
		}
		m := t.terms[i]
		switch {
		case !m.Begun(id.UUID):
			return fmt.Errorf("%w: transaction %s is above %x, the highest of its term", ErrDamaged, id, m.Highest)
		case f.rooted:
			if len(f.state.Branches) == 0 {
				f.state.Branches = nil // as when it is read from a single record
			}
			rooted = append(rooted, f)
		case !m.Forgotten(id.UUID):
			return fmt.Errorf("%w: transaction %s has no beginning and was not forgotten", ErrDamaged, id)
		default: // R13
		}
	}
	clear(t.found[len(rooted):])
	t.found = rooted
	return nil
}

// newLog returns the log of a fresh term, its writer not started.
func (t *taker) newLog(ctx context.Context, stream Stream) (*Log, error) {
	if n := len(t.terms); n > 0 && t.terms[n-1].Term >= stream.Term() {
		return nil, fmt.Errorf("%w: the fresh term %s is not above the former term %s", ErrDamaged, stream.Term(), t.terms[n-1].Term)
	}
	l := &Log{
		stream:   stream,
		config:   t.config,
		turn:     make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		flush:    time.NewTimer(time.Hour),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),
		failed:   make(chan struct{}),
		segments: newSegments(t.config, stream.Term(), t.terms),
	}
	l.segments.marks.words = t.words
	l.countTerms()
	l.flush.Stop()
	l.ctx, l.abandon = context.WithCancel(context.WithoutCancel(ctx))
	return l, nil
}

// release gives up what was taken over, and what was written of it, for the next
// Open to merge.
func (t *taker) release(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), releaseWithin)
	defer stop()
	for _, stream := range slices.Concat(t.streams, t.redundant.streams, []Stream{t.own}) {
		if stream != nil {
			// That it fails changes nothing: the terms stay as they are.
			_ = stream.Release(ctx)
		}
	}
}
