package wal

import (
	"bytes"
	"context"
	"fmt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// An Open that is interrupted leaves a term that holds once more what older terms
// hold. Were such terms kept until the next Open is through, each interruption would
// add one, and a full disk would soon have no room to go on (R12). So a redundant term is
// deleted as soon as a newer catalogue is durable: of several all but the newest one
// before the fresh term is opened, and that with its first append, before anything more
// is re-written. Whenever Open is interrupted, there are at most two of them.

// redundant are terms that were taken over, oldest first, and hold no transaction that is
// not in those that are kept, as it is there.
type redundant struct {
	streams []Stream
	// lister is the newest of them with a catalogue, 0 if there is none; catalogue is that.
	lister    participant.Term
	catalogue *record.Catalogue
}

func (r *redundant) add(stream Stream, catalogue *record.Catalogue) {
	r.streams = append(r.streams, stream)
	if catalogue != nil {
		r.lister, r.catalogue = stream.Term(), catalogue
	}
}

// repeats reports whether the record at hand, whose frame is given, says all that was
// read of its transaction before, from older terms or this one, and nothing else.
// Equal bytes are equal states: a state has one encoding, and merging it with itself
// changes nothing (R9).
func (s *scan) repeats(f *found, frame []byte) bool {
	if s.taker.reader.Kind() != record.KindCarried || !f.rooted {
		return false
	}
	var err error
	s.taker.frame, err = record.Append(s.taker.frame[:0], record.Carried{State: f.state})
	return err == nil && bytes.Equal(s.taker.frame, frame)
}

// deleteListed deletes the redundant terms that are older than their lister, if nothing
// but their transactions is lost with them: they stay listed (R10), with their marks
// (R13), and so do the operators' words.
func (t *taker) deleteListed(ctx context.Context) error {
	r := &t.redundant
	if r.lister == 0 || !t.listed(r.lister, r.catalogue) {
		return nil
	}
	for r.streams[0].Term() < r.lister {
		if err := deleteOldest(ctx, &r.streams); err != nil {
			return err
		}
	}
	return nil
}

// listed reports whether the catalogue says all that is known of terms before the
// lister, and all operators' words.
func (t *taker) listed(lister participant.Term, catalogue *record.Catalogue) bool {
	if catalogue.Words.Merge(t.words) != catalogue.Words {
		return false
	}
	for _, m := range t.terms {
		if m.Term >= lister {
			continue
		}
		i, listed := findTerm(catalogue.Terms, m.Term)
		if !listed || catalogue.Terms[i].Merge(m) != catalogue.Terms[i] {
			return false
		}
	}
	return true
}

// deleteRedundant deletes all redundant terms: what their headers say is durable in the
// catalogue of the own term.
func (t *taker) deleteRedundant(ctx context.Context) error {
	return deleteTerms(ctx, &t.redundant.streams)
}

// deleteTerms deletes terms, and takes each from the list when it is gone.
func deleteTerms(ctx context.Context, streams *[]Stream) error {
	for len(*streams) > 0 {
		if err := deleteOldest(ctx, streams); err != nil {
			return err
		}
	}
	return nil
}

func deleteOldest(ctx context.Context, streams *[]Stream) error {
	old := (*streams)[0]
	if err := old.Delete(ctx); err != nil {
		return fmt.Errorf("delete log term %s: %w", old.Term(), err)
	}
	*streams = (*streams)[1:]
	return nil
}
