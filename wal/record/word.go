package record

import (
	"cmp"
	"time"

	"github.com/assent-tm/assent/participant"
)

// Word is what an operator said of a log, and why. Number 0: nothing was said.
type Word struct {
	// Number orders the words of a log: a newer one has a higher number.
	Number uint64
	// At is the wall clock, to the millisecond; for people only (R8).
	At time.Time
	// Term is the highest former term that the log listed when it was said.
	Term participant.Term
	// Reason is the operator's, at most MaxReason bytes.
	Reason string
}

// Words are the newest operators' words on whether the log holds all that its
// participants were told (R10). They stay in the log for ever.
type Words struct {
	// Quarantine says that the log may be old: a copy was put in its place.
	Quarantine Word
	// Acceptance says that the log is to be used as it is. It ends an older
	// quarantine, and what participants know of transactions above the highest of
	// terms up to its Term proves nothing any more.
	Acceptance Word
}

// Merge unites what two sources know: of each word the newer one. It is
// commutative, associative and idempotent.
func (w Words) Merge(other Words) Words {
	return Words{Quarantine: newer(w.Quarantine, other.Quarantine), Acceptance: newer(w.Acceptance, other.Acceptance)}
}

// newer returns the word that counts. One number is one word, unless two
// coordinators recorded theirs at the same time: then any, but always the same.
func newer(a, b Word) Word {
	order := cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Term, b.Term), a.At.Compare(b.At), cmp.Compare(a.Reason, b.Reason))
	if order < 0 {
		return b
	}
	return a
}

// Quarantined reports whether the log is to be used in safe mode only: of the two
// words the quarantine is the newer one. Of two said at once it counts.
func (w Words) Quarantined() bool {
	return w.Quarantine.Number > 0 && w.Quarantine.Number >= w.Acceptance.Number
}

// Accepted is the highest term from which nothing proves the log old any more
// (R10); 0 if there is none.
func (w Words) Accepted() participant.Term { return w.Acceptance.Term }

// Next is the number of the next word.
func (w Words) Next() uint64 { return max(w.Quarantine.Number, w.Acceptance.Number) + 1 }

// On disk the words are two more fields of a Header, each nil if it was never said.
const (
	wordsFields = 2
	wordFields  = 4
)

// versionOfWords is the version of a Header whose catalogue has operators' words,
// versionOfPacked that of one whose terms are packed, with words or without. Any other
// header is of headerVersion, for programs that know neither; one that does not know words
// must not use a log in quarantine.
const (
	headerVersion   = 1
	versionOfWords  = 2
	versionOfPacked = 3
)

func (r Header) version() int {
	switch {
	case r.Catalogue.packed():
		return versionOfPacked
	case r.worded():
		return versionOfWords
	default:
		return headerVersion
	}
}

// worded reports whether the header holds operators' words.
func (r Header) worded() bool {
	return r.Catalogue != nil && r.Catalogue.Words != Words{}
}

func (e *encoder) word(w Word) {
	if w.Number == 0 {
		e.known("number of a word", w == Word{})
		e.null()
		return
	}
	e.known("time of a word", set(w.At))
	e.array(wordFields)
	e.uint(w.Number)
	e.time(w.At)
	e.uint(uint64(w.Term))
	e.reason(w.Reason)
}

// worded reads the words at the end of a header.
func (d *decoder) worded(h Header) Header {
	words := Words{Quarantine: d.word(), Acceptance: d.word()}
	if d.err == nil && (h.Catalogue == nil || d.version == versionOfWords && words == Words{}) {
		d.fail("operators' words without a catalogue, or none")
	}
	if d.err == nil {
		h.Catalogue.Words = words
	}
	return h
}

func (d *decoder) word() Word {
	n := d.array(wordFields)
	if d.err != nil || n < 0 {
		return Word{}
	}
	if n != wordFields {
		d.fail("%d fields of a word", n)
	}
	w := Word{Number: d.uint(), At: d.time(), Term: participant.Term(d.uint()), Reason: d.text(MaxReason)}
	d.known("number of a word", w.Number != 0)
	d.known("time of a word", set(w.At))
	return w
}
