package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Words returns what operators said of the log (R10), as far as it is durable. It
// is known when Open returns, from whichever term it was read.
func (l *Log) Words() record.Words {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.words
}

// Quarantine records an operator's word that the log may be older than what its
// participants know, because a copy was put in its place. A coordinator that opens
// the log is in safe mode from the start (R10), until Accept. The word is durable
// when Quarantine returns nil, and survives crashes and takeovers.
//
// An error is ErrClosed, a reason that is missing or longer than record.MaxReason,
// the end of ctx, or one that a Batch tells.
func (l *Log) Quarantine(ctx context.Context, reason string) error {
	if err := l.say(ctx, said{reason: reason}); err != nil {
		return fmt.Errorf("put log term %s into quarantine: %w", l.Term(), err)
	}
	return nil
}

// Accept records an operator's word that the log is to be used as it is. It ends a
// quarantine. What participants know of transactions of former terms above the
// highest that the log knows proves nothing any more, and where the log has no
// decision there was none: such branches are rolled back (R10). A coordinator reads
// the words when it opens the log. Durable and errors as with Quarantine.
func (l *Log) Accept(ctx context.Context, reason string) error {
	if err := l.say(ctx, said{reason: reason, accepts: true}); err != nil {
		return fmt.Errorf("accept log term %s as it is: %w", l.Term(), err)
	}
	return nil
}

// said is a word on its way into the log: an acceptance, or else a quarantine.
type said struct {
	accepts bool
	reason  string
	at      time.Time
}

func (l *Log) say(ctx context.Context, w said) error {
	switch {
	case w.reason == "":
		return errors.New("the reason is missing")
	case len(w.reason) > record.MaxReason:
		return fmt.Errorf("%d bytes of reason are over the limit of %d", len(w.reason), record.MaxReason)
	}
	w.at = time.UnixMilli(time.Now().UnixMilli()) // what a record keeps of it
	batch, err := l.enqueueWord(w)
	if err != nil {
		return err
	}
	select {
	case <-batch.Done():
		return batch.Err()
	case <-ctx.Done():
		return fmt.Errorf("it may be recorded or not: %w", context.Cause(ctx))
	}
}

func (l *Log) enqueueWord(w said) (*Batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return l.failedBatch, nil
	case l.closeAsked:
		return nil, ErrClosed
	}
	if l.current == nil {
		l.current = l.newQueue()
	}
	q := l.current
	q.said = append(q.said, w)
	q.due = true
	l.signal()
	return q.batch, nil
}

// say puts words into the catalogue, which is then part of the segment being made.
func (s *segments) say(words []said) {
	for _, w := range words {
		word := record.Word{Number: s.marks.words.Next(), At: w.at, Term: s.highestFormer(), Reason: w.reason}
		if w.accepts {
			s.marks.words.Acceptance = word
		} else {
			s.marks.words.Quarantine = word
		}
		s.catalogueDue = true
	}
}

// highestFormer is the term up to which an operator can judge: of the own one
// nothing is lost.
func (s *segments) highestFormer() participant.Term {
	highest := s.marks.words.Accepted() // never less than was accepted before
	if n := len(s.marks.former); n > 0 {
		highest = max(highest, s.marks.former[n-1].Term)
	}
	return highest
}
