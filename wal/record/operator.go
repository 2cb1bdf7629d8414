package record

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/assent-tm/assent/participant"
)

// Verb is what an operator asked for. The numbers are on disk.
type Verb uint8

const (
	// VerbRetry: what is undelivered is told at once.
	VerbRetry Verb = 1 + iota
	// VerbPause: nothing is delivered until VerbResume.
	VerbPause
	// VerbResume: delivery goes on.
	VerbResume
	// VerbForgetBranch: a branch is given up, and told nothing any more.
	VerbForgetBranch
	// VerbResolve: what an operator did to a branch by hand.
	VerbResolve
)

// Valid reports whether v is a verb.
func (v Verb) Valid() bool { return VerbRetry <= v && v <= VerbResolve }

func (v Verb) String() string {
	switch v {
	case VerbRetry:
		return "retry"
	case VerbPause:
		return "pause"
	case VerbResume:
		return "resume"
	case VerbForgetBranch:
		return "forget-branch"
	case VerbResolve:
		return "resolve"
	default:
		return "invalid verb"
	}
}

// ends reports whether the word ends a branch.
func (v Verb) ends() bool { return v == VerbForgetBranch || v == VerbResolve }

// Operator is an operator's word on a transaction: who said what, when and why.
type Operator struct {
	Tx participant.TxID
	// Number orders the words on one transaction; the first has 1.
	Number uint64
	// At is the wall clock, to the millisecond; for people only (R8).
	At   time.Time
	Verb Verb
	// Branch is the number of the branch it is about, NoBranch for all.
	Branch int
	// Outcome is what VerbResolve says of the branch: OutcomeCommitted or
	// OutcomeRolledBack.
	Outcome participant.Outcome
	// Who and Reason are at most MaxWho and MaxReason bytes.
	Who, Reason string
}

const (
	// MaxWho is the number of bytes that the name of an operator may have.
	MaxWho = 128
	// keptWords is how many words that end no branch a state keeps: the newest. Those that
	// do are as many as branches at most.
	keptWords = 64
	// maxWords bounds what a damaged length can make us read.
	maxWords = 4 * participant.MaxBranches
)

func (r Operator) Kind() Kind { return KindOperator }

func (r Operator) TxID() participant.TxID { return r.Tx }

func (r Operator) encodeFields(e *encoder) { e.operator(r) }

func (e *encoder) operator(r Operator) {
	e.known("number", r.Number != 0)
	e.uint(r.Number)
	e.known("time", set(r.At))
	e.sinceID(r.At)
	e.known("verb", r.Verb.Valid())
	encodeEnum(e, r.Verb)
	e.by(r.Branch)
	encodeEnum(e, r.Outcome)
	e.limit("bytes of an operator's name", len(r.Who), MaxWho)
	e.text(r.Who)
	e.reason(r.Reason)
}

// operatorFields is the number of fields of a word in a Carried.
const operatorFields = 7

func (d *decoder) operator() Operator {
	r := Operator{
		Tx: d.tx, Number: d.uint(), At: d.sinceID(), Verb: enum(d, Verb.Valid), Branch: d.by(), Outcome: d.outcome(),
		Who: d.text(MaxWho), Reason: d.text(MaxReason),
	}
	d.known("number", r.Number != 0)
	d.known("time", set(r.At))
	d.known("verb", r.Verb.Valid())
	return r
}

// words are the last field of a Carried that has some.
func (e *encoder) words(words []Operator) {
	e.limit("operators' words", len(words), maxWords)
	e.array(len(words))
	for _, w := range words {
		e.array(operatorFields)
		e.operator(w)
	}
}

func (d *decoder) words() (words []Operator) {
	n := d.array(maxWords)
	if d.err == nil && n < 1 {
		d.fail("no operators' words")
	}
	for i := 0; i < n && d.err == nil; i++ {
		if fields := d.array(operatorFields); d.err == nil && fields != operatorFields {
			d.fail("%d fields of an operator's word", fields)
		}
		words = append(words, d.operator())
	}
	return words
}

func compareWords(a, b Operator) int {
	return cmp.Or(
		cmp.Compare(a.Number, b.Number), a.At.Compare(b.At), cmp.Compare(a.Verb, b.Verb), cmp.Compare(a.Branch, b.Branch),
		cmp.Compare(a.Outcome, b.Outcome), strings.Compare(a.Who, b.Who), strings.Compare(a.Reason, b.Reason),
	)
}

// said merges words into the state: all that end a branch, and of the others the newest,
// with the one that says whether the transaction is paused (R12).
func (s *State) said(words ...Operator) {
	for _, w := range words {
		if i, known := slices.BinarySearchFunc(s.Words, w, compareWords); !known {
			s.Words = slices.Insert(s.Words, i, w)
		}
	}
	if len(s.Words) <= keptWords {
		return
	}
	others, pauses := 0, 0
	for i := len(s.Words) - 1; i >= 0; i-- {
		verb := s.Words[i].Verb
		if verb.ends() {
			continue
		}
		others++
		keep := others <= keptWords
		if verb == VerbPause || verb == VerbResume {
			pauses++
			keep = keep || pauses == 1
		}
		if !keep {
			s.Words = slices.Delete(s.Words, i, i+1)
		}
	}
}

// Paused reports whether an operator holds the delivery back.
func (s *State) Paused() bool {
	for _, w := range slices.Backward(s.Words) {
		switch w.Verb {
		case VerbPause:
			return true
		case VerbResume:
			return false
		default:
		}
	}
	return false
}

// NextWord is the number of the next word.
func (s *State) NextWord() uint64 {
	if len(s.Words) == 0 {
		return 1
	}
	return s.Words[len(s.Words)-1].Number + 1
}
