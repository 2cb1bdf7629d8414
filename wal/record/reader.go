package record

import (
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Reader reads records one after the other and merges them into states. It does as
// Next and State.Apply do, but makes no Record of them: a replay reads millions. Not
// safe for concurrent use.
type Reader struct {
	d decoder
	// Room for what is merged at once.
	votes    []participant.Vote
	branches []Branch
}

// NewReader returns a reader.
func NewReader() *Reader {
	return &Reader{
		d:        decoder{names: make(map[string]string)},
		votes:    make([]participant.Vote, participant.MaxBranches),
		branches: make([]Branch, participant.MaxBranches),
	}
}

// Next goes to the first record of b, which must stay as it is until the record was
// read, and returns what follows it. An error is an *UnknownError or Is ErrCorrupt.
func (r *Reader) Next(b []byte) (rest []byte, err error) {
	body, rest, err := nextBody(b)
	if err == nil {
		err = r.d.begin(body)
	}
	return rest, err
}

// Kind returns the kind of the record at hand.
func (r *Reader) Kind() Kind { return r.d.kind }

// TxID returns its transaction; of no meaning for a Header.
func (r *Reader) TxID() participant.TxID { return r.d.tx }

// Header reads the record at hand, a Header, once. An error Is ErrCorrupt.
func (r *Reader) Header() (Header, error) {
	if r.d.kind != KindHeader {
		return Header{}, fmt.Errorf("%w: %s record instead of a header", ErrCorrupt, r.d.kind)
	}
	h := r.d.header()
	return h, r.d.end()
}

// ApplyTo reads the record at hand once and merges it into the state of its
// transaction. An error Is ErrCorrupt, or that of State.Apply.
func (r *Reader) ApplyTo(s *State) error {
	d := &r.d
	if d.tx != s.Tx {
		return fmt.Errorf("record %s of %s applied to %s: %w", d.kind, d.tx, s.Tx, ErrConflict)
	}
	corrupt, conflict := r.merge(s)
	if conflict != nil {
		return fmt.Errorf("record %s of transaction %s: %w", d.kind, s.Tx, conflict)
	}
	return corrupt
}

// merge leaves the state alone unless the record was read to its end.
func (r *Reader) merge(s *State) (corrupt, conflict error) {
	d := &r.d
	switch d.kind {
	case KindBegun:
		if v := d.begun(); d.ended(&corrupt) {
			s.begun(v.At, v.Timeout, v.Attributes)
		}
	case KindEnlisted:
		if v := d.enlisted(); d.ended(&corrupt) {
			conflict = s.enlisted(v.Number, v.Participant, v.Data)
		}
	case KindPreparing:
		s.Preparing = d.ended(&corrupt) || s.Preparing
	case KindDecided:
		if v := d.decided(r.votes); d.ended(&corrupt) {
			conflict = s.decided(v)
		}
	case KindDelegated:
		s.Delegated = d.ended(&corrupt) || s.Delegated
	case KindCompleted:
		if v := d.completed(); d.ended(&corrupt) {
			s.completed(v.At)
		}
	case KindHeuristic:
		if v := d.heuristic(); d.ended(&corrupt) {
			conflict = s.acknowledged(v.Number, v.Outcome, v.Reason)
		}
	case KindOperator:
		if v := d.operator(); d.ended(&corrupt) {
			s.said(v)
		}
	case KindCarried:
		if v := d.state(r.branches); d.ended(&corrupt) {
			conflict = s.merge(&v)
		}
	default:
		conflict = fmt.Errorf("%w: it belongs to no transaction", ErrConflict)
	}
	return corrupt, conflict
}

// ended reports whether the record was whole, and keeps why not.
func (d *decoder) ended(corrupt *error) bool {
	*corrupt = d.end()
	return *corrupt == nil
}
