package syscalltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// A record is durable when bbolt's commit that it is in is: its page was written,
// then synced, then a meta page was written, then synced. Each of these begins after
// the one before has returned.
type stage uint8

const (
	written stage = 1 + iota
	synced
	named // by a meta page
	durable
)

// what tells one record of a transaction from another.
type what struct {
	tx       participant.TxID
	kind     record.Kind
	number   int             // of an enlisted branch
	decision record.Decision // of decided
}

func whatOf(r record.Record) what {
	w := what{tx: r.TxID(), kind: r.Kind()}
	switch r := r.(type) {
	case record.Enlisted:
		w.number = r.Number
	case record.Decided:
		w.decision = r.Decision
	}
	return w
}

// checker follows a trace: which records are durable, and whether what is told
// rests on one that is.
type checker struct {
	log   string // path of the log's file
	force bool

	stages map[what]stage
	// reached are the records that reached a stage, in that order; begun says how
	// many of those before had when a call began that is under way.
	reached [durable + 1][]what
	begun   map[string]int

	branches map[participant.TxID]int // that the client enlisted
	ends     map[participant.TxID]string
	told     map[string]map[string]int // by target and verb
	verbs    map[participant.TxID]map[string]int

	syncs, commits int // of the log
	metaWritten    bool
	syncsOf        map[int]int  // by commit
	commitOf       map[what]int // in which a record was durable first

	violations []string
}

func newChecker(log string, force bool) *checker {
	return &checker{
		log: log, force: force, stages: map[what]stage{}, begun: map[string]int{},
		branches: map[participant.TxID]int{}, ends: map[participant.TxID]string{},
		told: map[string]map[string]int{}, verbs: map[participant.TxID]map[string]int{},
		syncsOf: map[int]int{}, commitOf: map[what]int{},
	}
}

func (c *checker) run(events []event) error {
	for _, e := range events {
		var err error
		switch {
		case e.target == c.log && e.call == "fdatasync":
			c.sync(e)
		case e.target == c.log && e.call == "pwrite64":
			c.write(e)
		case e.target == c.log && e.call == "fsync":
			// The file grew. That nothing rests on it makes the check stricter.
		case e.target == c.log:
			err = fmt.Errorf("line %d: %s of the log: the checker knows pwrite64, fdatasync and fsync only", e.line, e.call)
		case !e.returned:
			// From its beginning on a byte of it may have left.
			err = c.tell(e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// advance moves records to the next stage: those that were in the one before when
// the call began.
func (c *checker) advance(e event, from, to stage) {
	call := fmt.Sprint(e.call, from)
	if !e.returned {
		c.begun[call] = len(c.reached[from])
		return
	}
	if e.failed {
		return
	}
	for _, w := range c.reached[from][:c.begun[call]] {
		if c.stages[w] == from {
			c.stages[w] = to
			c.reached[to] = append(c.reached[to], w)
			if to == durable {
				c.commitOf[w] = c.commits
			}
		}
	}
}

func (c *checker) sync(e event) {
	c.advance(e, named, durable)
	c.advance(e, written, synced)
	if !e.returned {
		return
	}
	c.syncs++
	c.syncsOf[c.commits]++
	if c.metaWritten {
		c.metaWritten = false
		c.commits++
	}
}

func (c *checker) write(e event) {
	if e.offset < int64(2*os.Getpagesize()) {
		c.advance(e, synced, named)
		c.metaWritten = c.metaWritten || e.returned
		return
	}
	if !e.returned || e.failed {
		return
	}
	for _, r := range frames(e.data) {
		if w := whatOf(r); c.stages[w] == 0 {
			c.stages[w] = written
			c.reached[written] = append(c.reached[written], w)
		}
	}
}

// frames finds the records in a page, wherever they are: what has the form and the
// checksum of one is one.
func frames(page []byte) (found []record.Record) {
	for i := 0; i < len(page); {
		length, n := binary.Uvarint(page[i:])
		body := i + n
		if n > 0 && length >= 4 && body+3 < len(page) && page[body]&0xF0 == 0x90 && page[body+1] <= byte(record.KindHeader) && page[body+2] == record.Version {
			if r, rest, err := record.Next(page[i:]); err == nil {
				if r.Kind() != record.KindHeader {
					found = append(found, r)
				}
				i = len(page) - len(rest)
				continue
			}
		}
		i++
	}
	return found
}

// tell checks each line that begins to leave the process. Other writes hold none.
func (c *checker) tell(e event) error {
	for line := range bytes.Lines(e.data) {
		words := strings.Fields(string(line))
		if len(words) < 2 {
			continue
		}
		verb := words[0]
		var b participant.Branch
		var err error
		switch verb {
		case "prepare", "commit", "rollback", "one-phase", "forget":
			b, err = participant.ParseXID(words[1])
		case began, committed, rolledBack, unchanged:
			b.Tx, err = participant.ParseTxID(words[1])
		case enlisted:
			if b.Tx, err = participant.ParseTxID(words[1]); err == nil {
				b.Number, err = strconv.Atoi(words[2])
			}
		default:
			continue
		}
		if err != nil {
			return fmt.Errorf("line %d: %q: %w", e.line, line, err)
		}
		c.note(e, verb, b)
		for _, w := range c.needed(verb, b) {
			if c.stages[w] != durable {
				c.violations = append(c.violations, fmt.Sprintf("%s of %s begins to leave in line %d, %s record of it is not durable (stage %d of %d)",
					verb, b.Tx, e.line, w.kind, c.stages[w], durable))
			}
		}
	}
	return nil
}

func (c *checker) note(e event, verb string, b participant.Branch) {
	target, _, _ := strings.Cut(e.target, ":")
	if c.told[target] == nil {
		c.told[target] = map[string]int{}
	}
	c.told[target][verb]++
	if c.verbs[b.Tx] == nil {
		c.verbs[b.Tx] = map[string]int{}
	}
	c.verbs[b.Tx][verb]++
	switch verb {
	case enlisted:
		c.branches[b.Tx]++
	case committed, rolledBack, unchanged:
		c.ends[b.Tx] = verb
	}
}

// needed are the three rows of R1, and what a client may be told.
func (c *checker) needed(verb string, b participant.Branch) (all []what) {
	of := func(kind record.Kind) what { return what{tx: b.Tx, kind: kind} }
	decided := func(d record.Decision) what { return what{tx: b.Tx, kind: record.KindDecided, decision: d} }
	switch verb {
	case "prepare", "one-phase":
		all = append(all, of(record.KindBegun))
		for n := range max(c.branches[b.Tx], b.Number+1) {
			all = append(all, what{tx: b.Tx, kind: record.KindEnlisted, number: n})
		}
		if verb == "prepare" {
			return append(all, of(record.KindPreparing))
		}
		return append(all, of(record.KindDelegated))
	case "commit":
		return append(all, decided(record.DecisionCommit))
	case "rollback", rolledBack:
		return append(all, decided(record.DecisionRollback))
	case "forget":
		return append(all, of(record.KindCompleted))
	}
	switch {
	case verb == committed && !c.force && c.verbs[b.Tx]["one-phase"] > 0:
		return nil // the branch has decided (R3)
	case verb == committed && !c.force:
		return append(all, decided(record.DecisionCommit))
	case !c.force:
		return nil
	case verb == began:
		return append(all, of(record.KindBegun))
	case verb == enlisted:
		return append(all, what{tx: b.Tx, kind: record.KindEnlisted, number: b.Number})
	default: // committed, unchanged
		return append(all, decided(record.DecisionCommit), of(record.KindCompleted))
	}
}
