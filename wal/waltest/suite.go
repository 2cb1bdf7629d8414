package waltest

import (
	"testing"

	"github.com/assent-tm/assent/wal"
)

// Subject is the driver under test.
type Subject struct {
	// New begins an empty log, and removes it when t ends.
	New func(t *testing.T) Log
	// Repeats says that the driver may return wal.ErrRepeat: repeating an append
	// must then be safe.
	Repeats bool
}

// Log is one log of a driver, as the processes of coordinators see it.
type Log struct {
	// Open opens a store as a new process does. If only one can be open at a
	// time, the former one was closed or crashed before.
	Open func(t *testing.T) wal.Store
	// Crash lets the store's process die at once. When it returns, the store's
	// terms are orphans for whoever opens the log, and the store and its streams
	// can be called without effect.
	Crash func(t *testing.T, s wal.Store)
	// Expire makes the store's terms orphans while its streams live on and may
	// still append. nil if stores can't be open at the same time.
	Expire func(t *testing.T, s wal.Store)
	// Fill leaves no space for what the log's stores have not reserved, until free
	// is called. nil if they can't run out of space, or it can't be taken.
	Fill func(t *testing.T) (free func())
}

// Test runs the conformance suite: every promise of wal.Store and wal.Stream, as
// far as a test can see it.
func Test(t *testing.T, subject Subject) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			l := &harness{T: t, Log: subject.New(t), repeats: subject.Repeats}
			if c.shared && l.Expire == nil {
				t.Log("not applicable: only one coordinator at a time can use the driver")
				return
			}
			if c.full && l.Fill == nil {
				t.Log("not applicable: the driver has all the space it wants")
				return
			}
			c.run(l)
		})
	}
}

var cases = []struct {
	name   string
	shared bool // needs stores that are open at the same time
	full   bool // needs a store that can be full
	run    func(l *harness)
}{
	{name: "terms are fresh and rise over every restart", run: termsRise},
	{name: "segments come back as they were, in order", run: segmentsComeBack},
	{name: "segments of many sizes", run: sizes},
	{name: "the segment is neither changed nor kept", run: segmentUntouched},
	{name: "terms don't mix", run: termsApart},
	{name: "a prefix is dropped, in any order", run: dropPrefixes},
	{name: "only a prefix is dropped", run: dropElse},
	{name: "a refused append changes nothing", run: allOrNothing},
	{name: "own late duplicates are refused", run: lateDuplicate},
	{name: "a repeated append is applied once", run: repeated},
	{name: "a cancelled context", run: cancelled},
	{name: "everything acknowledged survives a crash", run: crash},
	{name: "a crash before and after any append", run: crashAround},
	{name: "orphans", run: orphans},
	{name: "a live term can't be taken", run: liveTerm},
	{name: "a takeover continues after the last segment", run: takeoverContinues},
	{name: "epochs rise with every takeover (R9)", run: epochsRise},
	{name: "a released term's former owner is fenced (R9)", run: released},
	{name: "a deleted term is gone for good", run: deleted},
	{name: "one of many takers wins (R9)", run: takers},
	{name: "owners", run: owners},
	{name: "scan stops at an error", run: scanStops},
	{name: "calls after close", run: afterClose},
	{name: "concurrent terms", run: concurrentTerms},
	{name: "a takeover fences late appends (R9)", shared: true, run: takeoverFences},
	{name: "takers from several processes: one wins (R9)", shared: true, run: takersShared},
	{name: "orphans are announced later", shared: true, run: orphansLater},
	{name: "what is reserved can be appended to a full store", full: true, run: reserved},
	{name: "a full store says so, and when it isn't any more", full: true, run: fullThenNot},
	{name: "every append is before or after a takeover (R9)", shared: true, run: appendsRaceTakeover},
}
