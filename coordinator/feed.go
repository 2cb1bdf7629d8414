package coordinator

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// EventKind tells events of a Feed apart.
type EventKind uint8

// The kinds are the functions of Trace, and EventGap.
const (
	EventBegun EventKind = 1 + iota
	EventEnlisted
	EventVoted
	EventDecided
	EventTold
	EventFinished
	EventOrphan
	EventSafeMode
	// EventGap: events are missing here. The subscriber was too slow, or asked for some
	// that the feed does not remember.
	EventGap
)

func (k EventKind) String() string {
	names := [...]string{
		EventBegun: "begun", EventEnlisted: "enlisted", EventVoted: "voted", EventDecided: "decided", EventTold: "told", EventFinished: "finished",
		EventOrphan: "orphan", EventSafeMode: "safe mode", EventGap: "gap",
	}
	if k == 0 || int(k) >= len(names) {
		return fmt.Sprintf("invalid event %d", uint8(k))
	}
	return names[k]
}

// Event is something that happened to a transaction. Fields that its kind says nothing
// of are zero; those of Trace say what the others mean.
type Event struct {
	// Number orders the events of a feed. Those of a later feed, after a restart say,
	// are higher, unless the clock was set back.
	Number      uint64
	Kind        EventKind
	At          time.Time
	Tx          participant.TxID
	Branch      int
	Participant string
	Vote        participant.Vote
	Decision    record.Decision
	Outcome     participant.Outcome
	Cause       record.Cause
	Attempt     int
	Took        time.Duration
	// Text is the error of a call, why an orphan is treated so, or why safe mode was
	// entered; at most record.MaxReason bytes.
	Text string
}

// Feed lets subscribers follow what happens to transactions. It remembers the newest
// events while somebody subscribes, and for a minute after the last has left: who comes
// back in time misses nothing. Nobody is waited for: a subscriber that is too slow gets
// a gap. Safe for concurrent use.
type Feed struct {
	size   int
	linger time.Duration
	active atomic.Bool // somebody may want the events

	mu          sync.Mutex
	ring        []Event // of size; nil while the feed is not active
	first, next uint64  // the numbers of the oldest event in ring, and of the one to come
	subscribers map[*Subscription]struct{}
	waiting     []*Subscription // that have seen all
	until       time.Time       // when the feed stops to remember, if nobody subscribes
}

// DefaultFeedSize is how many events NewFeed(0) remembers.
const DefaultFeedSize = 16_384

// NewFeed returns a feed that remembers so many events; 0 means DefaultFeedSize. An event takes
// some 150 bytes, and its text. Nothing is remembered before the first Subscribe.
func NewFeed(size int) *Feed {
	if size <= 0 {
		size = DefaultFeedSize
	}
	now := uint64(time.Now().UnixNano())
	return &Feed{size: size, linger: time.Minute, first: now, next: now, subscribers: make(map[*Subscription]struct{})}
}

// Trace returns what fills the feed, for Config.Trace; JoinTraces adds it to another.
func (f *Feed) Trace() *Trace {
	return &Trace{
		Begun: func(tx participant.TxID) { f.publish(Event{Kind: EventBegun, Tx: tx}, nil) },
		Enlisted: func(b participant.Branch) {
			f.publish(Event{Kind: EventEnlisted, Tx: b.Tx, Branch: b.Number, Participant: b.Participant}, nil)
		},
		Voted: func(b participant.Branch, vote participant.Vote, err error, took time.Duration) {
			f.publish(Event{Kind: EventVoted, Tx: b.Tx, Branch: b.Number, Participant: b.Participant, Vote: vote, Took: took}, err)
		},
		Decided: func(tx participant.TxID, decision record.Decision, cause record.Cause) {
			f.publish(Event{Kind: EventDecided, Tx: tx, Decision: decision, Cause: cause}, nil)
		},
		Told: func(b participant.Branch, decision record.Decision, attempt int, err error, took time.Duration) {
			f.publish(Event{
				Kind: EventTold, Tx: b.Tx, Branch: b.Number, Participant: b.Participant, Decision: decision, Attempt: attempt, Took: took,
			}, err)
		},
		Finished: func(tx participant.TxID, outcome participant.Outcome) {
			f.publish(Event{Kind: EventFinished, Tx: tx, Outcome: outcome}, nil)
		},
		Orphan: func(o recovery.Orphan) {
			b := o.Branch
			f.publish(Event{
				Kind: EventOrphan, Tx: b.Tx, Branch: b.Number, Participant: b.Participant, Text: record.Reason(fmt.Sprintf("%s: %s", o.Verdict, o.Reason)),
			}, nil)
		},
		SafeMode: func(why string) { f.publish(Event{Kind: EventSafeMode, Text: record.Reason(why)}, nil) },
	}
}

// publish takes an event in, if somebody may want it.
func (f *Feed) publish(e Event, err error) {
	if !f.active.Load() {
		return
	}
	if err != nil {
		e.Text = record.Reason(err.Error())
	}
	e.At = time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.ring == nil:
		return
	case len(f.subscribers) == 0 && e.At.After(f.until):
		f.rest()
		return
	}
	e.Number = f.next
	f.ring[f.next%uint64(f.size)] = e
	if f.next++; f.next-f.first > uint64(f.size) {
		f.first++
	}
	for _, s := range f.waiting {
		s.wakeUp()
	}
	f.waiting = f.waiting[:0]
}

// rest lets the feed remember nothing until somebody subscribes. Called with the mutex held.
func (f *Feed) rest() {
	f.active.Store(false)
	f.ring = nil
}

// start lets the feed remember. What happened meanwhile is missing: its numbers are
// left out. Called with the mutex held.
func (f *Feed) start(now time.Time) {
	f.ring = make([]Event, f.size)
	f.next = max(f.next+1, uint64(now.UnixNano()))
	f.first = f.next
	f.active.Store(true)
}
