package wal

import (
	"context"
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Source gives what is stored of a log, without the right to write it. What it
// gives must not change meanwhile.
type Source interface {
	// Terms returns the terms that the store holds, in the order of their numbers.
	Terms() []participant.Term
	// Scan is a Store's.
	Scan(ctx context.Context, term participant.Term, fn func(seq uint64, segment []byte) error) error
}

// Contents is what the terms of a log say together.
type Contents struct {
	// Domain is "" if no coordinator ever opened the log.
	Domain string
	// Terms are all that were ever opened in the log, in the order of their numbers.
	Terms []record.TermMarks
	// Words are the operators'.
	Words record.Words
	// Transactions are the live and the retained ones, in the order of ids.
	Transactions []*record.State
}

// Read returns what Open would find, and changes nothing. An error Is ErrDamaged or
// ErrNewer, or one of the source's.
func Read(ctx context.Context, source Source) (*Contents, error) {
	t := newTaker(Config{})
	for _, term := range source.Terms() {
		t.mark(record.TermMarks{Term: term})
		s := scan{taker: t, term: term}
		if err := source.Scan(ctx, term, s.segment); err != nil {
			return nil, fmt.Errorf("read log term %s: %w", term, err)
		}
	}
	if err := t.examine(); err != nil {
		return nil, err
	}
	c := &Contents{Domain: t.config.Domain, Terms: t.terms, Words: t.words}
	for _, f := range t.found {
		c.Transactions = append(c.Transactions, &f.state)
	}
	slices.SortFunc(c.Transactions, func(a, b *record.State) int { return a.Tx.Compare(b.Tx) })
	return c, nil
}
