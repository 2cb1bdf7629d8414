package record

import (
	"bytes"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
)

// Header is the first record of every segment. It says whose segment it is, and
// holds what must be known of terms whose transactions are gone from the log.
type Header struct {
	// Term and Seq place the segment: one that turns up elsewhere is damage.
	Term participant.Term
	Seq  uint64
	// Highest is the highest id begun in Term so far: a participant that knows a
	// higher one proves the log old (R10).
	Highest uuid.UUID
	// Mark is the highest id of Term whose outcome was forgotten (R13).
	Mark uuid.UUID
	// Catalogue is the log's list of terms (R9), nil in a segment that leaves it
	// as it was. The newest one counts.
	Catalogue *Catalogue
}

// Catalogue is what the log knows besides its transactions.
type Catalogue struct {
	// Domain is the domain of the coordinators that wrote the log.
	Domain string
	// Terms are the terms that were opened in this log before the one that holds
	// the catalogue, in the order of their numbers.
	Terms []TermMarks
	// Words are what operators said of the log.
	Words Words
}

// TermMarks is what must never be forgotten of a term.
type TermMarks struct {
	Term participant.Term
	// Highest and Mark are as in Header.
	Highest uuid.UUID
	Mark    uuid.UUID
}

// Merge unites what two sources know of one term: both marks only grow.
func (m TermMarks) Merge(other TermMarks) TermMarks {
	if !m.Begun(other.Highest) {
		m.Highest = other.Highest
	}
	if !m.Forgotten(other.Mark) {
		m.Mark = other.Mark
	}
	return m
}

// Begun reports whether the id may have been begun in the term, as far as is known:
// it is at or below Highest (R10).
func (m TermMarks) Begun(id uuid.UUID) bool { return bytes.Compare(id[:], m.Highest[:]) <= 0 }

// Forgotten reports whether the outcome may have been forgotten, if it is not
// retained: the id is at or below Mark (R13).
func (m TermMarks) Forgotten(id uuid.UUID) bool { return bytes.Compare(id[:], m.Mark[:]) <= 0 }
