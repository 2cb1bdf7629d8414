package wal

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// nothingBegins is the share of the room for the list of terms beyond which no
// transaction begins: the rest is for starts that end what is in doubt.
const nothingBegins = 0.75

// checkTerms fails if the list of terms has no room for the fresh one (R12). That is not
// opened then, and so the log stays as it is however often somebody tries.
func (t *taker) checkTerms() error {
	if size := record.TermsSize(t.terms); size > t.config.sizes.terms {
		return fmt.Errorf("%w: its list of %d terms needs up to %d of %d bytes, and can't get longer; `assent log` shows what is in doubt: finish that by hand at the participants, and begin a new log",
			ErrTermsExhausted, len(t.terms), size, t.config.sizes.terms)
	}
	return nil
}

// countTerms notes how much of the room for the list of terms is used.
func (l *Log) countTerms() {
	former, room := l.segments.marks.former, l.config.sizes.terms
	size := record.TermsSize(former)
	l.stats.Terms, l.stats.TermsUsed = len(former)+1, float64(size)/float64(room)
	if l.stats.TermsUsed > nothingBegins {
		l.exhausted = fmt.Errorf("%w: its list of %d terms needs up to %d of %d bytes: let what is in doubt end, and begin a new log before it can't be opened any more",
			ErrTermsExhausted, len(former)+1, size, room)
	}
}

// findTerm finds a term in a list in the order of their numbers.
func findTerm(terms []record.TermMarks, term participant.Term) (i int, listed bool) {
	return slices.BinarySearchFunc(terms, term, func(m record.TermMarks, term participant.Term) int {
		return cmp.Compare(m.Term, term)
	})
}

// mergeTerms unites what two lists say, each in the order of their numbers.
func mergeTerms(a, b []record.TermMarks) []record.TermMarks {
	byNumber := func(a, b record.TermMarks) int { return cmp.Compare(a.Term, b.Term) }
	slices.SortFunc(b, byNumber) // it is, unless the log is damaged
	merged := make([]record.TermMarks, 0, max(len(a), len(b))+1)
	for len(a)+len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0].Term < a[0].Term {
			from = &b
		}
		m := (*from)[0]
		*from = (*from)[1:]
		if last := len(merged) - 1; last >= 0 && merged[last].Term == m.Term {
			merged[last] = merged[last].Merge(m)
		} else {
			merged = append(merged, m)
		}
	}
	return merged
}
