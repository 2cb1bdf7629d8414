package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
)

// A record on disk is a frame: the length of the body as a uvarint, the body, and
// the CRC32C of the body, little endian. The body is a msgpack array: kind,
// version, transaction id, then the fields of the kind.
//
// Version 1, in which a Header still is, has the id in two fields, term and UUID, and
// all times since 1970. Version 2 has it in one field of idSize bytes, and the times
// of Begun, of Completed and of operators' words since the time that is in the UUID.
// Operator begins with version 2. Version 3 is that of a Carried with operators' words,
// which are its last field: a program that does not know them would lose them.

// Version is the version of the records of transactions that this program writes, but
// for Carried with words. It reads version 1 as well.
const Version = 2

const versionOfCarriedWords = 3

const (
	termSize = 7 // a term has 56 bits
	idSize   = termSize + len(uuid.UUID{})
)

// maxBody bounds what a damaged length can make us read. The largest record is a
// Header with the catalogue of a log that was opened a million times, see MaxTermsSize.
const maxBody = 16 << 20

// ErrCorrupt says that bytes are not a record as this program or an older one
// wrote it.
var ErrCorrupt = errors.New("damaged record")

// UnknownError says that a record was written by a newer program.
type UnknownError struct {
	Kind    Kind
	Version int
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("record of kind %d (%s) version %d: this program reads kinds up to %d and version %d; use the newer program that wrote it",
		uint8(e.Kind), e.Kind, e.Version, uint8(KindHeader), highestVersion(e.Kind))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the record's frame to dst. It fails if the record exceeds its
// limits, and then returns dst unchanged. Safe for concurrent use.
func Append(dst []byte, r Record) ([]byte, error) {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.begin(r)
	r.encodeFields(e)
	if e.err == nil && len(e.body) > maxBody {
		e.err = fmt.Errorf("%d bytes are over the limit of %d", len(e.body), maxBody)
	}
	if e.err != nil {
		return dst, fmt.Errorf("encode %s record of transaction %s: %w", r.Kind(), r.TxID(), e.err)
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.body)))
	dst = append(dst, e.body...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(e.body, castagnoli)), nil
}

// Next decodes the first record of b and returns what follows it. An error is an
// *UnknownError or Is ErrCorrupt. The record shares no memory with b.
func Next(b []byte) (r Record, rest []byte, err error) {
	body, rest, err := nextBody(b)
	if err != nil {
		return nil, nil, err
	}
	if r, err = decode(body); err != nil {
		return nil, nil, err
	}
	return r, rest, nil
}

// nextBody cuts the first frame off b and returns its body, which is as it was
// written.
func nextBody(b []byte) (body, rest []byte, err error) {
	frame, rest, err := NextFrame(b)
	if err != nil {
		return nil, nil, err
	}
	_, n := binary.Uvarint(frame)
	body, sum := frame[n:len(frame)-crc32.Size], frame[len(frame)-crc32.Size:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(sum) {
		return nil, nil, fmt.Errorf("%w: checksum does not match", ErrCorrupt)
	}
	return body, rest, nil
}

// NextFrame cuts the first frame off b without looking into it. An error Is
// ErrCorrupt.
func NextFrame(b []byte) (frame, rest []byte, err error) {
	length, n := binary.Uvarint(b)
	if n <= 0 || length > maxBody || uint64(len(b)-n) < length+crc32.Size {
		return nil, nil, fmt.Errorf("%w: cut off, or no length", ErrCorrupt)
	}
	end := n + int(length) + crc32.Size
	return b[:end], b[end:], nil
}

// encoder appends one body. The first error sticks.
type encoder struct {
	packer
	tx     participant.TxID
	err    error
	packed []byte // room for terms
}

var encoders = sync.Pool{New: func() any { return &encoder{} }}

// fieldCount is the number of fields after kind and version, in version 1: term and
// UUID, then those of the kind.
var fieldCount = [...]int{
	KindBegun: 5, KindEnlisted: 5, KindPreparing: 2, KindDecided: 8, KindDelegated: 2,
	KindCompleted: 3, KindHeuristic: 5, KindCarried: 14, KindOperator: 2 + operatorFields, KindHeader: 6,
}

// highestVersion is the highest version of the kind that this program reads.
func highestVersion(kind Kind) int {
	switch kind {
	case KindHeader:
		return versionOfPacked
	case KindCarried:
		return versionOfCarriedWords
	default:
		return Version
	}
}

// lowestVersion is the lowest version of the kind that was ever written.
func lowestVersion(kind Kind) int {
	if kind == KindOperator {
		return 2
	}
	return 1
}

// fieldsOf is how many fields a known record has after kind and version.
func fieldsOf(kind Kind, version int) int {
	switch {
	case version == 1:
		return fieldCount[kind]
	case kind == KindHeader:
		return fieldCount[kind] + wordsFields
	case version == versionOfCarriedWords:
		return fieldCount[kind]
	default:
		return fieldCount[kind] - 1
	}
}

func (e *encoder) begin(r Record) {
	e.body, e.err = e.body[:0], nil
	e.tx = r.TxID()
	version := Version
	header, isHeader := r.(Header)
	if isHeader {
		e.tx = participant.TxID{Term: header.Term, UUID: header.Highest}
		version = header.version()
	}
	if carried, ok := r.(Carried); ok && len(carried.State.Words) > 0 {
		version = versionOfCarriedWords
	}
	if !e.tx.Term.Valid() {
		e.check(fmt.Errorf("invalid term %d", uint64(e.tx.Term)))
	}
	e.array(2 + fieldsOf(r.Kind(), version))
	e.uint(uint64(r.Kind()))
	e.uint(uint64(version))
	if isHeader {
		e.uint(uint64(e.tx.Term))
		e.uuid(e.tx.UUID)
		return
	}
	e.id(e.tx)
}

func (e *encoder) id(id participant.TxID) {
	var b [8 + len(id.UUID)]byte
	binary.BigEndian.PutUint64(b[:], uint64(id.Term))
	copy(b[8:], id.UUID[:])
	e.bytes(b[8-termSize:])
}

// sinceID writes a time after that in the UUID, which is mostly near. The difference
// may overflow: adding it gives the time all the same.
func (e *encoder) sinceID(t time.Time) { e.int(t.UnixMilli() - idMillis(e.tx)) }

// idMillis is the time in a version 7 UUID (RFC 9562 section 5.7), in milliseconds since 1970.
func idMillis(id participant.TxID) int64 {
	return int64(binary.BigEndian.Uint64(id.UUID[:8]) >> 16)
}

func (e *encoder) check(err error) {
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) limit(what string, n, limit int) {
	if n < 0 || n > limit {
		e.check(fmt.Errorf("%s: %d is outside 0 to %d", what, n, limit))
	}
}

func (e *encoder) uuid(u uuid.UUID) { e.bytes(u[:]) }

func (e *encoder) number(n int) {
	e.limit("branch number", n, participant.MaxBranches-1)
	e.int(int64(n))
}

// by is a branch's number, or NoBranch.
func (e *encoder) by(n int) {
	if n != NoBranch {
		e.limit("branch number", n, participant.MaxBranches-1)
	}
	e.int(int64(n))
}

func (e *encoder) reason(s string)          { e.limit("bytes of reason", len(s), MaxReason); e.text(s) }
func (e *encoder) duration(d time.Duration) { e.int(int64(d / time.Millisecond)) }

// known fails if a value is zero that the record is about.
func (e *encoder) known(what string, known bool) {
	if !known {
		e.check(fmt.Errorf("%s is missing", what))
	}
}

// encodeEnum writes a value of an enumeration, or zero for "not known".
func encodeEnum[T interface {
	~uint8
	Valid() bool
}](e *encoder, v T) {
	if v != 0 && !v.Valid() {
		e.check(fmt.Errorf("invalid %T %d", v, uint8(v)))
	}
	e.uint(uint64(v))
}

// set reports whether t is one that a record keeps: a time of 0 ms reads as none.
func set(t time.Time) bool { return !t.IsZero() && t.UnixMilli() != 0 }

func (e *encoder) data(b []byte) {
	e.limit("bytes of data", len(b), participant.MaxData)
	e.bytes(b)
}

func (e *encoder) name(s string) {
	e.limit("bytes of participant name", len(s), participant.MaxName)
	e.text(s)
}

func (e *encoder) time(t time.Time) {
	if t.IsZero() {
		e.int(0)
		return
	}
	e.int(t.UnixMilli())
}

func (e *encoder) votes(votes []participant.Vote) {
	e.limit("votes", len(votes), participant.MaxBranches)
	e.array(len(votes))
	for _, v := range votes {
		encodeEnum(e, v)
	}
}

func (e *encoder) attributes(a Attributes) {
	e.limit("bytes of attributes", a.Size(), MaxAttributes)
	e.pairs(len(a))
	keys := make([]string, 0, len(a))
	for k := range a {
		keys = append(keys, k)
	}
	sort.Strings(keys) // one state has one encoding
	for _, k := range keys {
		e.text(k)
		e.text(a[k])
	}
}

func (r Begun) encodeFields(e *encoder) {
	e.known("time", set(r.At))
	e.sinceID(r.At)
	e.duration(r.Timeout)
	e.attributes(r.Attributes)
}

func (r Enlisted) encodeFields(e *encoder) {
	e.number(r.Number)
	e.name(r.Participant)
	e.data(r.Data)
}

func (Preparing) encodeFields(*encoder) {}
func (Delegated) encodeFields(*encoder) {}

func (r Completed) encodeFields(e *encoder) {
	e.known("time", set(r.At))
	e.sinceID(r.At)
}

func (r Decided) encodeFields(e *encoder) {
	e.known("decision", r.Decision.Valid())
	encodeEnum(e, r.Decision)
	e.bool(r.Presumed)
	e.votes(r.Votes)
	encodeEnum(e, r.Cause)
	e.reason(r.Reason)
	e.by(r.By)
}

func (r Heuristic) encodeFields(e *encoder) {
	e.number(r.Number)
	e.known("outcome", r.Outcome.Valid())
	encodeEnum(e, r.Outcome)
	e.reason(r.Reason)
}

func (r Carried) encodeFields(e *encoder) {
	s := &r.State
	e.time(s.At)
	e.duration(s.Timeout)
	e.attributes(s.Attributes)
	e.limit("branches", len(s.Branches), participant.MaxBranches)
	e.array(len(s.Branches))
	for _, b := range s.Branches {
		e.array(branchFields)
		e.name(b.Participant)
		e.data(b.Data)
		encodeEnum(e, b.Vote)
		encodeEnum(e, b.Outcome)
		e.reason(b.Reason)
	}
	e.bool(s.Preparing)
	e.bool(s.Delegated)
	encodeEnum(e, s.Decision)
	e.bool(s.Presumed)
	encodeEnum(e, s.Cause)
	e.reason(s.Reason)
	e.by(s.By)
	e.time(s.Completed)
	if len(s.Words) > 0 {
		e.words(s.Words)
	}
}

const branchFields = 5

func (r Header) encodeFields(e *encoder) {
	e.uint(r.Seq)
	e.uuid(r.Mark)
	e.catalogue(r.Catalogue)
	if r.version() > headerVersion {
		e.word(r.Catalogue.Words.Quarantine)
		e.word(r.Catalogue.Words.Acceptance)
	}
}
