package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

// Bounds of a history. Read refuses what is above them.
const (
	MaxEvents   = 4_000_000
	MaxLine     = 4 << 10 // bytes
	MaxText     = 256     // bytes of tx, participant and xid
	MaxBranch   = 63
	MaxCalls    = 256 // of clients, for one transaction
	maxNotation = 20  // fields of one line
)

// ErrMalformed is wrapped by the errors of Read and Check for text that is no
// history; they name the line and what is wrong with it.
var ErrMalformed = errors.New("not a history")

// Read reads a whole history from r: strictly, so that what a recorder misspells is
// an error and not a promise that is never looked at. The first line says the
// version. Errors wrap ErrMalformed, or are those of r.
func Read(r io.Reader) ([]Event, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, MaxLine), MaxLine)
	var events []Event
	for lines.Scan() {
		if len(events) == MaxEvents {
			return nil, malformed(len(events)+1, "more than %d events", MaxEvents)
		}
		e, err := parse(lines.Bytes())
		if err != nil {
			return nil, malformed(len(events)+1, "%w", err)
		}
		events = append(events, e)
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, malformed(len(events)+1, "longer than %d bytes", MaxLine)
	case err != nil:
		return nil, fmt.Errorf("reading a history after line %d: %w", len(events), err)
	}
	return events, validate(events)
}

// Write writes events as Read reads them; they must be valid.
func Write(w io.Writer, events []Event) error {
	if err := validate(events); err != nil {
		return err
	}
	out := json.NewEncoder(w)
	for i, e := range events {
		if err := out.Encode(e); err != nil {
			return fmt.Errorf("writing line %d of a history: %w", i+1, err)
		}
	}
	return nil
}

func malformed(line int, format string, args ...any) error {
	return fmt.Errorf("%w: line %d: %w", ErrMalformed, line, fmt.Errorf(format, args...))
}

func parse(line []byte) (Event, error) {
	if !utf8.Valid(line) {
		return Event{}, errors.New("not UTF-8")
	}
	names, err := fieldNames(line)
	if err != nil {
		return Event{}, err
	}
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, err
	}
	s, ok := shapes[e.Kind]
	if !ok {
		return Event{}, fmt.Errorf("kind %q is none", e.Kind)
	}
	for _, name := range names {
		if name != "kind" && name != "note" && !slices.Contains(s.must, name) && !slices.Contains(s.may, name) {
			return Event{}, fmt.Errorf("%s has no field %q", e.Kind, name)
		}
	}
	for _, name := range s.must {
		if !slices.Contains(names, name) {
			return Event{}, fmt.Errorf("%s lacks the field %q", e.Kind, name)
		}
	}
	return e, nil
}

// fieldNames returns the names of a flat object's fields as they are spelled, none
// twice: encoding/json takes "TX" for "tx" and the last of two. It knows no null.
func fieldNames(line []byte) ([]string, error) {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var names []string
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		if slices.Contains(names, name) {
			return nil, fmt.Errorf("field %q twice", name)
		}
		if len(names) == maxNotation {
			return nil, fmt.Errorf("more than %d fields", maxNotation)
		}
		names = append(names, name)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		if string(value) == "null" || value[0] == '{' {
			return nil, fmt.Errorf("field %q is %.20s", name, value)
		}
	}
	return names, nil
}

// validate says what is wrong with values and with lines that refer to others.
func validate(events []Event) error {
	if len(events) == 0 || events[0].Kind != KindHistory {
		return malformed(1, "the first line has kind %q", KindHistory)
	}
	calls, perTx := map[int64]string{}, map[string]int{}
	rows, prepared, lasts := map[string]int{}, map[string]int{}, 0
	for i, e := range events {
		if err := e.validate(); err != nil {
			return malformed(i+1, "%w", err)
		}
		switch {
		case e.Kind == KindHistory && i > 0:
			return malformed(i+1, "a second %q", KindHistory)
		case e.Kind == KindCrash || e.Kind == KindFault:
			lasts = i + 1
		case e.Kind == KindRepaired:
			lasts = 0
		case e.Kind == KindSettled && lasts > 0:
			return malformed(i+1, "settled, but no %q after line %d", KindRepaired, lasts)
		case e.Kind == KindWitness:
			rows[e.Participant]++
		case e.Kind == KindWitnesses && rows[e.Participant] != *e.Count:
			return malformed(i+1, "%d rows of %s, and %d lines", *e.Count, e.Participant, rows[e.Participant])
		case e.Kind == KindLeft:
			prepared[e.Participant]++
		case e.Kind == KindListed && prepared[e.Participant] != *e.Count:
			return malformed(i+1, "%d branches at %s, and %d lines", *e.Count, e.Participant, prepared[e.Participant])
		case e.Kind == KindCall:
			if _, known := calls[*e.Call]; known {
				return malformed(i+1, "call %d twice", *e.Call)
			}
			calls[*e.Call] = e.Tx
			if perTx[e.Tx]++; perTx[e.Tx] > MaxCalls {
				return malformed(i+1, "more than %d calls for transaction %s", MaxCalls, e.Tx)
			}
		case e.Kind == KindAnswer:
			if calls[*e.Call] == "" {
				return malformed(i+1, "call %d is not open", *e.Call)
			}
			calls[*e.Call] = ""
		}
	}
	return nil
}

func (e Event) validate() error {
	s, ok := shapes[e.Kind]
	has := func(name string) bool { return slices.Contains(s.must, name) }
	inRange := func(n *int, most int) bool { return n != nil && *n >= 0 && *n <= most }
	switch {
	case !ok:
		return fmt.Errorf("kind %q is none", e.Kind)
	case e.Kind == KindHistory && e.Version != Version:
		return fmt.Errorf("version %d, this reads %d", e.Version, Version)
	case e.Kind == KindHistory && slices.ContainsFunc(e.Sees, func(s Sight) bool { return s != SeesLog && s != SeesEffects }):
		return fmt.Errorf("sees %q: it knows %q and %q", e.Sees, SeesLog, SeesEffects)
	case has("tx") && !text(e.Tx), has("participant") && !text(e.Participant), has("xid") && !text(e.XID), len(e.Participant) > MaxText:
		return fmt.Errorf("%s: tx, participant and xid have 1 to %d bytes", e.Kind, MaxText)
	case (has("branch") || e.Branch != nil) && !inRange(e.Branch, MaxBranch):
		return fmt.Errorf("%s: branch is not between 0 and %d", e.Kind, MaxBranch)
	case has("outcome") && !slices.Contains(s.outcomes, e.Outcome):
		return fmt.Errorf("%s: outcome %q is none of %q", e.Kind, e.Outcome, s.outcomes)
	case has("vote") && !slices.Contains([]Vote{VotePrepared, VoteReadOnly, VoteRefused, VoteUnknown}, e.Vote):
		return fmt.Errorf("vote %q is none", e.Vote)
	case has("op") && e.Op != OpCommit && e.Op != OpRollback && e.Op != OpGet:
		return fmt.Errorf("op %q is none", e.Op)
	case has("owner") && e.Owner != OwnerOurs && e.Owner != OwnerForeign:
		return fmt.Errorf("owner %q is neither %q nor %q", e.Owner, OwnerOurs, OwnerForeign)
	case has("call") && e.Call == nil, has("sum") && e.Sum == nil, has("count") && !inRange(e.Count, MaxEvents):
		return fmt.Errorf("%s: its number is missing or out of range", e.Kind)
	case e.OnePhase && e.Outcome != Commit:
		return errors.New("one_phase goes with commit")
	}
	return nil
}

func text(s string) bool { return s != "" && len(s) <= MaxText }
