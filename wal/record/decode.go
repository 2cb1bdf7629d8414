package record

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
)

// decoder reads one body.
type decoder struct {
	unpacker
	kind    Kind
	version int
	tx      participant.TxID
	// names are participants' names read before: many records share a few.
	names map[string]string
}

// maxNames bounds the names a decoder keeps (R12).
const maxNames = 1000

var decoders = sync.Pool{New: func() any { return &decoder{names: make(map[string]string)} }}

func decode(body []byte) (Record, error) {
	d := decoders.Get().(*decoder)
	defer func() {
		d.unpacker = unpacker{} // the body is the caller's
		decoders.Put(d)
	}()
	if err := d.begin(body); err != nil {
		return nil, err
	}
	r := d.fields()
	if err := d.end(); err != nil {
		return nil, err
	}
	return r, nil
}

// begin reads what every record begins with.
func (d *decoder) begin(body []byte) error {
	d.unpacker = unpacker{rest: body}
	n := d.array(2 + len(fieldCount) + 64)
	kind, version := Kind(d.uint8()), int(d.uint8())
	if d.err == nil && (kind == 0 || int(kind) >= len(fieldCount) || fieldCount[kind] == 0 || version < lowestVersion(kind) || version > highestVersion(kind)) {
		return &UnknownError{Kind: kind, Version: version}
	}
	if d.err == nil && n != 2+fieldsOf(kind, version) {
		d.fail("%d fields instead of %d", n, 2+fieldsOf(kind, version))
	}
	d.kind, d.version = kind, version
	if kind == KindHeader || version == 1 {
		d.tx = participant.TxID{Term: participant.Term(d.uint()), UUID: d.uuid()}
	} else {
		d.tx = d.id()
	}
	if d.err == nil && !d.tx.Term.Valid() {
		d.fail("term %d", uint64(d.tx.Term))
	}
	return d.failure()
}

// end is called when all fields are read.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	return d.failure()
}

func (d *decoder) failure() error {
	if d.err != nil {
		return fmt.Errorf("%w: %s record: %w", ErrCorrupt, d.kind, d.err)
	}
	return nil
}

func (d *decoder) fields() Record {
	switch d.kind {
	case KindBegun:
		return d.begun()
	case KindEnlisted:
		return d.enlisted()
	case KindPreparing:
		return Preparing{Tx: d.tx}
	case KindDecided:
		return d.decided(nil)
	case KindDelegated:
		return Delegated{Tx: d.tx}
	case KindCompleted:
		return d.completed()
	case KindHeuristic:
		return d.heuristic()
	case KindOperator:
		return d.operator()
	case KindCarried:
		return Carried{State: d.state(nil)}
	case KindHeader:
		return d.header()
	default:
		d.fail("kind %d", d.kind)
		return nil
	}
}

func (d *decoder) begun() Begun {
	r := Begun{Tx: d.tx, At: d.sinceID(), Timeout: d.duration(), Attributes: d.attributes()}
	d.known("time", set(r.At))
	return r
}

func (d *decoder) enlisted() Enlisted {
	return Enlisted{Tx: d.tx, Number: d.branch(), Participant: d.name(), Data: d.data()}
}

// decided puts the votes into room, if it has some.
func (d *decoder) decided(room []participant.Vote) Decided {
	r := Decided{
		Tx: d.tx, Decision: d.decision(), Presumed: d.bool(), Votes: d.votes(room),
		Cause: d.cause(), Reason: d.text(MaxReason), By: d.by(),
	}
	d.known("decision", r.Decision.Valid())
	return r
}

func (d *decoder) completed() Completed {
	r := Completed{Tx: d.tx, At: d.sinceID()}
	d.known("time", set(r.At))
	return r
}

func (d *decoder) heuristic() Heuristic {
	r := Heuristic{Tx: d.tx, Number: d.branch(), Outcome: d.outcome(), Reason: d.text(MaxReason)}
	d.known("outcome", r.Outcome.Valid())
	return r
}

func (d *decoder) header() Header {
	h := Header{Term: d.tx.Term, Highest: d.tx.UUID, Seq: d.uint(), Mark: d.uuid(), Catalogue: d.catalogue()}
	if d.err == nil && d.version > headerVersion {
		h = d.worded(h)
	}
	return h
}

// state puts the branches into room, if it has some.
func (d *decoder) state(room []Branch) State {
	s := State{Tx: d.tx, At: d.time(), Timeout: d.duration(), Attributes: d.attributes()}
	if n := d.array(participant.MaxBranches); n > cap(room) {
		s.Branches = make([]Branch, n)
	} else if n > 0 {
		s.Branches = room[:n]
	}
	for i := range s.Branches {
		if n := d.array(branchFields); d.err == nil && n != branchFields {
			d.fail("%d fields of a branch", n)
		}
		s.Branches[i] = Branch{Participant: d.name(), Data: d.data(), Vote: d.vote(), Outcome: d.outcome(), Reason: d.text(MaxReason)}
	}
	s.Preparing, s.Delegated, s.Decision = d.bool(), d.bool(), d.decision()
	s.Presumed, s.Cause, s.Reason, s.By = d.bool(), d.cause(), d.text(MaxReason), d.by()
	s.Completed = d.time()
	if d.err == nil && d.version == versionOfCarriedWords {
		s.Words = d.words()
	}
	return s
}

// known fails if a value is zero that the record is about.
func (d *decoder) known(what string, known bool) {
	if !known {
		d.fail("%s is missing", what)
	}
}

func (d *decoder) uint8() uint8 {
	n := d.uint()
	if d.err == nil && n > 255 {
		d.fail("%d is over 255", n)
	}
	return uint8(n)
}

func (d *decoder) text(limit int) string { return string(d.unpacker.text(limit)) }

func (d *decoder) data() []byte {
	if b := d.bytes(participant.MaxData); len(b) > 0 {
		return bytes.Clone(b)
	}
	return nil
}

func (d *decoder) name() string {
	b := d.unpacker.text(participant.MaxName)
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	if len(d.names) == maxNames {
		clear(d.names)
	}
	s := string(b)
	d.names[s] = s
	return s
}

func (d *decoder) uuid() (u uuid.UUID) {
	if n := copy(u[:], d.bytes(len(u))); d.err == nil && n != len(u) {
		d.fail("%d bytes of UUID", n)
	}
	return u
}

func (d *decoder) id() (id participant.TxID) {
	b := d.bytes(idSize)
	if d.err == nil && len(b) != idSize {
		d.fail("%d bytes of transaction id", len(b))
	}
	if d.err == nil {
		var term [8]byte
		copy(term[8-termSize:], b)
		id.Term = participant.Term(binary.BigEndian.Uint64(term[:]))
		copy(id.UUID[:], b[termSize:])
	}
	return id
}

func (d *decoder) branch() int { return d.within("branch number", 0, participant.MaxBranches-1) }
func (d *decoder) by() int     { return d.within("branch number", NoBranch, participant.MaxBranches-1) }

func (d *decoder) within(what string, low, high int64) int {
	n := d.int()
	if d.err == nil && (n < low || n > high) {
		d.fail("%s %d", what, n)
	}
	return int(n)
}

func (d *decoder) time() time.Time { return timeOf(d.int()) }

// sinceID reads what the encoder's sinceID writes; in version 1, a time since 1970.
func (d *decoder) sinceID() time.Time {
	ms := d.int()
	if d.version > 1 {
		ms += idMillis(d.tx)
	}
	return timeOf(ms)
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func (d *decoder) duration() time.Duration {
	const longest = int64(1<<63-1) / int64(time.Millisecond)
	ms := d.int()
	if d.err == nil && (ms < -longest || ms > longest) {
		d.fail("duration of %d ms", ms)
	}
	return time.Duration(ms) * time.Millisecond
}

func (d *decoder) votes(room []participant.Vote) []participant.Vote {
	n := d.array(participant.MaxBranches)
	if n <= 0 {
		return nil
	}
	if n > cap(room) {
		room = make([]participant.Vote, n)
	}
	votes := room[:n]
	for i := range votes {
		votes[i] = d.vote()
	}
	return votes
}

func (d *decoder) attributes() Attributes {
	n := d.pairs(MaxAttributes)
	if n <= 0 {
		return nil
	}
	a := make(Attributes, n)
	for range n {
		k := d.text(MaxAttributes)
		a[k] = d.text(MaxAttributes)
	}
	if d.err == nil && (len(a) != n || a.Size() > MaxAttributes) {
		d.fail("attributes: %d bytes, %d of %d keys", a.Size(), len(a), n)
	}
	return a
}

// The enumerations may be zero, which is "not known"; other invalid values are
// damage.

func (d *decoder) vote() participant.Vote {
	return enum(d, participant.Vote.Valid)
}

func (d *decoder) outcome() participant.Outcome {
	return enum(d, participant.Outcome.Valid)
}

func (d *decoder) decision() Decision { return enum(d, Decision.Valid) }
func (d *decoder) cause() Cause       { return enum(d, Cause.Valid) }

func enum[T ~uint8](d *decoder, valid func(T) bool) T {
	v := T(d.uint8())
	if d.err == nil && v != 0 && !valid(v) {
		d.fail("%T %d", v, uint8(v))
	}
	return v
}
