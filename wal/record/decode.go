package record

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/assent-tm/assent/participant"
)

// decoder reads one body. The first error sticks; what is read after it is zero.
type decoder struct {
	*msgpack.Decoder
	body bytes.Reader
	err  error
}

var decoders = sync.Pool{New: func() any {
	d := &decoder{}
	d.Decoder = msgpack.NewDecoder(&d.body)
	return d
}}

func decode(body []byte) (Record, error) {
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.body.Reset(body)
	d.ResetReader(&d.body)
	d.err = nil

	n := d.array(2 + len(fieldCount) + 64)
	kind, version := Kind(d.uint8()), int(d.uint8())
	if d.err == nil && (kind == 0 || int(kind) >= len(fieldCount) || fieldCount[kind] == 0 || version < Version || version > highestVersion(kind)) {
		return nil, &UnknownError{Kind: kind, Version: version}
	}
	if d.err == nil && n != 2+fieldsOf(kind, version) {
		d.fail("%d fields instead of %d", n, 2+fieldsOf(kind, version))
	}
	id := participant.TxID{Term: participant.Term(d.uint()), UUID: d.uuid()}
	r := d.fields(kind, id)
	if d.err == nil && version == versionOfWords {
		r = d.worded(r.(Header))
	}
	if d.err == nil && !id.Term.Valid() {
		d.fail("term %d", uint64(id.Term))
	}
	if d.err == nil && d.body.Len() > 0 {
		d.fail("%d bytes too many", d.body.Len())
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: %s record: %w", ErrCorrupt, kind, d.err)
	}
	return r, nil
}

func (d *decoder) fields(kind Kind, id participant.TxID) Record {
	switch kind {
	case KindBegun:
		r := Begun{Tx: id, At: d.time(), Timeout: d.duration(), Attributes: d.attributes()}
		d.known("time", set(r.At))
		return r
	case KindEnlisted:
		return Enlisted{Tx: id, Number: d.number(), Participant: d.name(), Data: d.data()}
	case KindPreparing:
		return Preparing{Tx: id}
	case KindDecided:
		r := Decided{Tx: id, Decision: d.decision(), Presumed: d.bool(), Votes: d.votes(), Cause: d.cause(), Reason: d.text(MaxReason), By: d.by()}
		d.known("decision", r.Decision.Valid())
		return r
	case KindDelegated:
		return Delegated{Tx: id}
	case KindCompleted:
		r := Completed{Tx: id, At: d.time()}
		d.known("time", set(r.At))
		return r
	case KindHeuristic:
		r := Heuristic{Tx: id, Number: d.number(), Outcome: d.outcome(), Reason: d.text(MaxReason)}
		d.known("outcome", r.Outcome.Valid())
		return r
	case KindCarried:
		return Carried{State: d.state(id)}
	case KindHeader:
		return Header{Term: id.Term, Highest: id.UUID, Seq: d.uint(), Mark: d.uuid(), Catalogue: d.catalogue()}
	default:
		d.fail("kind %d", kind)
		return nil
	}
}

func (d *decoder) state(id participant.TxID) State {
	s := State{Tx: id, At: d.time(), Timeout: d.duration(), Attributes: d.attributes()}
	if n := d.array(participant.MaxBranches); n > 0 {
		s.Branches = make([]Branch, n)
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
	return s
}

func (d *decoder) catalogue() *Catalogue {
	domain, n := d.text(participant.MaxDomain), d.array(maxBody)
	if d.err != nil || n < 0 {
		return nil
	}
	c := &Catalogue{Domain: domain}
	for range n {
		if n := d.array(termMarksFields); d.err == nil && n != termMarksFields {
			d.fail("%d fields of a term", n)
		}
		if d.err != nil {
			return nil
		}
		c.Terms = append(c.Terms, TermMarks{Term: participant.Term(d.uint()), Highest: d.uuid(), Mark: d.uuid()})
	}
	return c
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// known fails if a value is zero that the record is about.
func (d *decoder) known(what string, known bool) {
	if !known {
		d.fail("%s is missing", what)
	}
}

// array returns the length of an array; -1 for nil.
func (d *decoder) array(limit int) int {
	return d.length("array", limit, d.DecodeArrayLen)
}

func (d *decoder) length(what string, limit int, read func() (int, error)) int {
	if d.err != nil {
		return 0
	}
	n, err := read()
	if err != nil {
		d.err = err
	} else if n > limit {
		d.fail("%s of %d is over the limit of %d", what, n, limit)
	}
	if d.err != nil {
		return 0
	}
	return n
}

func (d *decoder) uint() (n uint64) {
	if d.err == nil {
		n, d.err = d.DecodeUint64()
	}
	return n
}

func (d *decoder) uint8() uint8 {
	n := d.uint()
	if d.err == nil && n > 255 {
		d.fail("%d is over 255", n)
	}
	return uint8(n)
}

func (d *decoder) int() (n int64) {
	if d.err == nil {
		n, d.err = d.DecodeInt64()
	}
	return n
}

func (d *decoder) bool() (b bool) {
	if d.err == nil {
		b, d.err = d.DecodeBool()
	}
	return b
}

func (d *decoder) bytes(limit int) []byte {
	n := d.length("bytes", limit, d.DecodeBytesLen)
	if d.err != nil || n <= 0 {
		return nil
	}
	if n > d.body.Len() {
		d.fail("cut off")
		return nil
	}
	b := make([]byte, n)
	d.err = d.ReadFull(b)
	return b
}

func (d *decoder) text(limit int) string { return string(d.bytes(limit)) }
func (d *decoder) data() []byte          { return d.bytes(participant.MaxData) }
func (d *decoder) name() string          { return d.text(participant.MaxName) }

func (d *decoder) uuid() (u uuid.UUID) {
	n := d.length("bytes", len(u), d.DecodeBytesLen)
	if d.err == nil && n != len(u) {
		d.fail("%d bytes of UUID", n)
	}
	if d.err == nil {
		d.err = d.ReadFull(u[:])
	}
	return u
}

func (d *decoder) number() int { return d.within("branch number", 0, participant.MaxBranches-1) }
func (d *decoder) by() int     { return d.within("branch number", NoBranch, participant.MaxBranches-1) }

func (d *decoder) within(what string, low, high int64) int {
	n := d.int()
	if d.err == nil && (n < low || n > high) {
		d.fail("%s %d", what, n)
	}
	return int(n)
}

func (d *decoder) time() time.Time {
	if ms := d.int(); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}

func (d *decoder) duration() time.Duration {
	const longest = int64(1<<63-1) / int64(time.Millisecond)
	ms := d.int()
	if d.err == nil && (ms < -longest || ms > longest) {
		d.fail("duration of %d ms", ms)
	}
	return time.Duration(ms) * time.Millisecond
}

func (d *decoder) votes() []participant.Vote {
	n := d.array(participant.MaxBranches)
	if n <= 0 {
		return nil
	}
	votes := make([]participant.Vote, n)
	for i := range votes {
		votes[i] = d.vote()
	}
	return votes
}

func (d *decoder) attributes() Attributes {
	n := d.length("map", MaxAttributes, d.DecodeMapLen)
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
