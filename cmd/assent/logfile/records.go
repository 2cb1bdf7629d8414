package logfile

import (
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// fieldsOf returns what the record says besides its kind and transaction.
func fieldsOf(r record.Record) (f fields) {
	switch r := r.(type) {
	case record.Begun:
		f.begun(r.At, r.Timeout, r.Attributes)
	case record.Enlisted:
		f.add("branch", r.Number)
		f.add("participant", r.Participant)
		f.add("data", data(r.Data))
	case record.Decided:
		f.decided(r.Decision, r.Presumed, r.Cause, r.Reason, r.By)
		f.add("votes", voteTexts(r.Votes))
	case record.Completed:
		f.add("at", timeText(r.At))
	case record.Heuristic:
		f.add("branch", r.Number)
		f.add("outcome", r.Outcome.String())
		f.add("reason", r.Reason)
	case record.Operator:
		f = operatorFields(r)
	case record.Carried:
		f = stateFields(&r.State)
	case record.Header:
		f.header(r)
	}
	return f
}

// stateFields returns what is known of a transaction.
func stateFields(s *record.State) (f fields) {
	f.begun(s.At, s.Timeout, s.Attributes)
	var branches []fields
	for i, b := range s.Branches {
		var one fields
		one.add("branch", i)
		one.add("participant", b.Participant)
		one.add("data", data(b.Data))
		if b.Vote.Valid() {
			one.add("vote", b.Vote.String())
		}
		if b.Outcome.Valid() {
			one.add("outcome", b.Outcome.String())
		}
		one.add("reason", b.Reason)
		branches = append(branches, one)
	}
	f.add("branches", branches)
	f.add("preparing", s.Preparing)
	f.add("delegated", s.Delegated)
	if s.Decision.Valid() {
		f.decided(s.Decision, s.Presumed, s.Cause, s.Reason, s.By)
	}
	f.add("completed", timeText(s.Completed))
	f.add("paused", s.Paused())
	words := make([]fields, len(s.Words))
	for i, w := range s.Words {
		words[i] = operatorFields(w)
	}
	f.add("words", words)
	return f
}

// operatorFields are those of an operator's word on a transaction.
func operatorFields(r record.Operator) (f fields) {
	f.add("number", r.Number)
	f.add("at", timeText(r.At))
	f.add("verb", r.Verb.String())
	if r.Branch != record.NoBranch {
		f.add("branch", r.Branch)
	}
	if r.Outcome.Valid() {
		f.add("outcome", r.Outcome.String())
	}
	f.add("who", r.Who)
	f.add("reason", r.Reason)
	return f
}

func (f *fields) begun(at time.Time, timeout time.Duration, attributes record.Attributes) {
	f.add("at", timeText(at))
	if timeout != 0 {
		f.add("timeout", timeout.String())
	}
	f.add("attributes", attributeFields(attributes))
}

func (f *fields) decided(d record.Decision, presumed bool, cause record.Cause, reason string, by int) {
	f.add("decision", d.String())
	f.add("presumed", presumed)
	if cause != 0 {
		f.add("cause", cause.String())
	}
	f.add("reason", reason)
	if by != record.NoBranch {
		f.add("by", by)
	}
}

func (f *fields) header(h record.Header) {
	f.add("highest", idText(h.Highest))
	f.add("mark", idText(h.Mark))
	if h.Catalogue == nil {
		return
	}
	f.add("domain", h.Catalogue.Domain)
	f.add("terms", list(marksFields(h.Catalogue.Terms)))
	f.add("quarantine", wordFields(h.Catalogue.Words.Quarantine))
	f.add("acceptance", wordFields(h.Catalogue.Words.Acceptance))
}

func marksFields(terms []record.TermMarks) []fields {
	listed := make([]fields, len(terms))
	for i, m := range terms {
		listed[i].add("term", m.Term.String())
		listed[i].add("highest", idText(m.Highest))
		listed[i].add("mark", idText(m.Mark))
	}
	return listed
}

func wordFields(w record.Word) (f fields) {
	if w.Number == 0 {
		return nil
	}
	f.add("number", w.Number)
	f.add("at", timeText(w.At))
	if w.Term != 0 {
		f.add("term", w.Term.String())
	}
	f.add("reason", w.Reason)
	return f
}

// attributeFields returns them in the order that they have on disk.
func attributeFields(attributes record.Attributes) (f fields) {
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		f = append(f, field{key, attributes[key]})
	}
	return f
}

func voteTexts(votes []participant.Vote) []string {
	texts := make([]string, len(votes))
	for i, v := range votes {
		if texts[i] = "unknown"; v.Valid() {
			texts[i] = v.String()
		}
	}
	return texts
}

// timeText is the same wherever it is printed.
func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// idText is the second half of a transaction's id; "" for none.
func idText(u uuid.UUID) string {
	if u == (uuid.UUID{}) {
		return ""
	}
	return hex.EncodeToString(u[:])
}

// txText is "" for a record of no transaction.
func txText(id participant.TxID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}
