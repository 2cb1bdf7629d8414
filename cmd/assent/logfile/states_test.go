package logfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// small keeps the files small.
var small = &bolt.Options{MapSize: 32 << 10}

// states are the golden logs: each leaves a log at path. The name begins with the
// generation of the format that the state is written in.
var states = map[string]func(t *testing.T, path string){
	"v2-empty":      func(t *testing.T, path string) { writing(t, path, func(*writer) {}) },
	"v2-in-doubt":   func(t *testing.T, path string) { writing(t, path, (*writer).inDoubt) },
	"v2-retained":   writeRetained,
	"v2-terms":      writeTerms,
	"v2-unclean":    writeUnclean,
	"v2-restored":   writeRestored,
	"v2-accepted":   writeAccepted,
	"v2-snapshot":   writeSnapshot,
	"v2-forgotten":  writeForgotten,
	"v3-many-terms": writeManyTerms,
	"v4-words":      writeWords,
}

// writer is a coordinator's log while it is written.
type writer struct {
	t         *testing.T
	log       *wal.Log
	inherited []wal.Inherited
	last      byte
}

// writing lets write have the log at path, in a fresh term, and closes it.
func writing(t *testing.T, path string, write func(*writer)) {
	t.Helper()
	store, err := bolt.Open(path, small)
	require.NoError(t, err)
	w := opened(t, store, time.Hour)
	write(w)
	require.NoError(t, errors.Join(w.log.Close(t.Context()), store.Close()))
}

func opened(t *testing.T, store *bolt.Store, retention time.Duration) *writer {
	t.Helper()
	log, inherited, err := wal.Open(t.Context(), store, wal.Config{Domain: "orders", Owner: "coordinator:1", Retention: retention})
	require.NoError(t, err)
	return &writer{t: t, log: log, inherited: inherited}
}

func (w *writer) begin() *wal.Place {
	w.last++
	id := participant.TxID{Term: w.log.Term(), UUID: uuid.UUID{0: 1, 1: 0xa2, 6: 0x70, 8: 0x80, 15: w.last}}
	place := w.log.NewPlace(id)
	w.append(place, record.Begun{Tx: id, At: now(), Timeout: 30 * time.Second, Attributes: record.Attributes{
		record.AttributeName: "transfer", record.AttributeOwner: "shop", record.AttributeRequestID: "r-17",
	}})
	return place
}

func (w *writer) append(place *wal.Place, records ...record.Record) {
	w.t.Helper()
	batch, err := w.log.Append(place, true, records...)
	require.NoError(w.t, err)
	<-batch.Done()
	require.NoError(w.t, batch.Err())
}

// enlisted begins a transaction with two branches.
func (w *writer) enlisted() *wal.Place {
	p := w.begin()
	w.append(p, record.Enlisted{Tx: p.ID(), Participant: "bank_a", Data: []byte(`{"account":"alice"}`)},
		record.Enlisted{Tx: p.ID(), Number: 1, Participant: "bank_b"})
	return p
}

func (w *writer) committed() *wal.Place {
	p := w.enlisted()
	w.append(p, record.Preparing{Tx: p.ID()}, record.Decided{
		Tx: p.ID(), Decision: record.DecisionCommit, By: record.NoBranch,
		Votes: []participant.Vote{participant.VotePrepared, participant.VoteReadOnly},
	})
	return p
}

func (w *writer) refused() *wal.Place {
	p := w.enlisted()
	w.append(p, record.Preparing{Tx: p.ID()}, record.Decided{
		Tx: p.ID(), Decision: record.DecisionRollback, Cause: record.CauseRefused, Reason: "insufficient funds", By: 1,
		Votes: []participant.Vote{0, participant.VoteRefused},
	})
	return p
}

func (w *writer) heuristic() *wal.Place {
	p := w.committed()
	w.append(p, record.Heuristic{Tx: p.ID(), Outcome: participant.OutcomeHeuristicRollback, Reason: "rolled back by hand"})
	return p
}

func (w *writer) complete(p *wal.Place) { w.append(p, record.Completed{Tx: p.ID(), At: now()}) }

// inDoubt leaves a transaction in each phase in which a crash can leave it.
func (w *writer) inDoubt() {
	w.begin()
	w.enlisted()
	preparing := w.enlisted()
	w.append(preparing, record.Preparing{Tx: preparing.ID()})
	w.committed()
	w.refused()
	w.heuristic()
	delegated := w.begin()
	w.append(delegated, record.Enlisted{Tx: delegated.ID(), Participant: "bank_c"}, record.Delegated{Tx: delegated.ID()})
}

// writeRetained leaves outcomes that are kept, some of them and one that is in doubt
// carried over from a former term.
func writeRetained(t *testing.T, path string) {
	writing(t, path, func(w *writer) {
		w.complete(w.committed())
		w.complete(w.heuristic())
		w.committed()
	})
	writing(t, path, func(w *writer) {
		w.complete(w.refused())
		undecided := w.enlisted()
		w.append(undecided, record.Decided{Tx: undecided.ID(), Decision: record.DecisionRollback, Presumed: true, Cause: record.CausePresumed, By: record.NoBranch})
	})
}

// writeTerms leaves what two coordinators of one store leave: two terms of equal
// rank, for the next to merge.
func writeTerms(t *testing.T, path string) {
	store, err := bolt.Open(path, small)
	require.NoError(t, err)
	a, b := opened(t, store, time.Hour), opened(t, store, time.Hour)
	a.inDoubt()
	b.complete(b.refused())
	b.committed()
	require.NoError(t, errors.Join(a.log.Close(t.Context()), b.log.Close(t.Context()), store.Close()))
}

// writeUnclean leaves the file as a kill leaves it.
func writeUnclean(t *testing.T, path string) {
	store, err := bolt.Open(path, small)
	require.NoError(t, err)
	w := opened(t, store, time.Hour)
	w.inDoubt()
	killed, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, errors.Join(w.log.Close(t.Context()), store.Close()))
	require.NoError(t, os.WriteFile(path, killed, 0o600))
}

func writeSnapshot(t *testing.T, path string) {
	source := filepath.Join(t.TempDir(), "source.db")
	writing(t, source, (*writer).inDoubt)
	r, err := bolt.OpenReader(source)
	require.NoError(t, err)
	require.NoError(t, errors.Join(r.Snapshot(path), r.Close()))
}

func writeRestored(t *testing.T, path string) {
	writing(t, path, (*writer).inDoubt)
	writing(t, path, func(w *writer) { require.NoError(t, w.log.Quarantine(t.Context(), "restored from Monday's backup")) })
}

func writeAccepted(t *testing.T, path string) {
	writeRestored(t, path)
	writing(t, path, func(w *writer) { require.NoError(t, w.log.Accept(t.Context(), "compared with both banks")) })
	writing(t, path, func(w *writer) { w.committed() })
}

// writeForgotten leaves marks, of the former term and of the last, and nothing of the
// transactions below them.
func writeForgotten(t *testing.T, path string) {
	for range 2 {
		store, err := bolt.Open(path, small)
		require.NoError(t, err)
		w := opened(t, store, -1)
		for _, inherited := range w.inherited {
			w.complete(inherited.Place)
		}
		w.committed()
		w.complete(w.refused())
		require.NoError(t, errors.Join(w.log.Close(t.Context()), store.Close()))
	}
	writing(t, path, func(*writer) {})
}

// writeManyTerms leaves a catalogue that is packed: terms in which nothing was begun, one
// with a highest id, and ones with a mark.
func writeManyTerms(t *testing.T, path string) {
	writing(t, path, (*writer).inDoubt)
	store, err := bolt.Open(path, small)
	require.NoError(t, err)
	for i := range 260 {
		w := opened(t, store, time.Hour)
		if i == 100 {
			require.NoError(t, w.log.Close(t.Context()))
			w = opened(t, store, -1)
			w.complete(w.committed())
			w.complete(w.refused())
			w.complete(w.heuristic())
		}
		require.NoError(t, w.log.Close(t.Context()))
	}
	w := opened(t, store, -1)
	w.committed()
	require.NoError(t, errors.Join(w.log.Close(t.Context()), store.Close()))
}

// say adds an operator's word.
func (w *writer) say(p *wal.Place, number uint64, verb record.Verb, branch int, outcome participant.Outcome, with ...record.Record) {
	w.append(p, append(with, record.Operator{
		Tx: p.ID(), Number: number, At: now(), Verb: verb, Branch: branch, Outcome: outcome, Who: "alice", Reason: "bank_a is gone",
	})...)
}

// writeWords leaves operators' words on transactions, as they were said, and carried over
// from a former term.
func writeWords(t *testing.T, path string) {
	words := func(w *writer) {
		paused := w.committed()
		w.say(paused, 1, record.VerbRetry, record.NoBranch, 0)
		w.say(paused, 2, record.VerbPause, record.NoBranch, 0)
		resumed := w.refused()
		w.say(resumed, 1, record.VerbPause, record.NoBranch, 0)
		w.say(resumed, 2, record.VerbResume, record.NoBranch, 0)
		forgotten := w.committed()
		w.say(forgotten, 1, record.VerbForgetBranch, 0, 0,
			record.Heuristic{Tx: forgotten.ID(), Outcome: participant.OutcomeHeuristicHazard, Reason: "bank_a is gone"})
		resolved := w.refused()
		w.say(resolved, 1, record.VerbResolve, 0, participant.OutcomeRolledBack)
		w.say(resolved, 2, record.VerbResolve, 1, participant.OutcomeCommitted,
			record.Heuristic{Tx: resolved.ID(), Number: 1, Outcome: participant.OutcomeHeuristicCommit, Reason: "bank_a is gone"})
		w.complete(resolved)
		delegated := w.begin()
		w.append(delegated, record.Enlisted{Tx: delegated.ID(), Participant: "bank_c"}, record.Delegated{Tx: delegated.ID()})
		w.say(delegated, 1, record.VerbResolve, 0, participant.OutcomeCommitted,
			record.Decided{Tx: delegated.ID(), Decision: record.DecisionCommit, By: record.NoBranch})
	}
	writing(t, path, words)
	writing(t, path, words)
}

// now is the time as records keep it.
func now() time.Time { return time.UnixMilli(time.Now().UnixMilli()) }

// sampleRecords are records of every kind, with all that they can say and with as
// little as possible.
func sampleRecords() []record.Record {
	tx := participant.TxID{Term: participant.NewTerm(7, 0xfeed), UUID: uuid.UUID{1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16}}
	at, end := time.UnixMilli(1_800_000_000_123), time.UnixMilli(1_800_000_060_456)
	word := func(n uint64, reason string) record.Word {
		return record.Word{Number: n, At: at, Term: participant.NewTerm(3, 1), Reason: reason}
	}
	terms := []record.TermMarks{{Term: participant.NewTerm(2, 9)}, {Term: participant.NewTerm(3, 1), Highest: tx.UUID, Mark: uuid.UUID{9}}}
	return []record.Record{
		record.Begun{Tx: tx, At: at},
		record.Begun{Tx: tx, At: at, Timeout: 30 * time.Second, Attributes: record.Attributes{record.AttributeName: "transfer", record.AttributeOwner: "o"}},
		record.Enlisted{Tx: tx, Participant: "bank_a"},
		record.Enlisted{Tx: tx, Number: 63, Participant: "bank_b", Data: []byte{0, 255}},
		record.Preparing{Tx: tx},
		record.Decided{Tx: tx, Decision: record.DecisionCommit, Votes: []participant.Vote{participant.VotePrepared, participant.VoteReadOnly}, By: record.NoBranch},
		record.Decided{
			Tx: tx, Decision: record.DecisionRollback, Votes: []participant.Vote{participant.VotePrepared, 0, participant.VoteRefused},
			Cause: record.CauseRefused, Reason: "no funds", By: 2,
		},
		record.Decided{Tx: tx, Decision: record.DecisionRollback, Presumed: true, Cause: record.CausePresumed, By: record.NoBranch},
		record.Delegated{Tx: tx},
		record.Completed{Tx: tx, At: end},
		record.Heuristic{Tx: tx, Outcome: participant.OutcomeHeuristicHazard},
		record.Heuristic{Tx: tx, Number: 63, Outcome: participant.OutcomeHeuristicMixed, Reason: "half"},
		record.Operator{Tx: tx, Number: 1, At: end, Verb: record.VerbRetry, Branch: record.NoBranch},
		record.Operator{Tx: tx, Number: 300, At: end, Verb: record.VerbResolve, Branch: 63, Outcome: participant.OutcomeRolledBack, Who: "alice", Reason: "by hand"},
		record.Carried{State: *record.NewState(tx)},
		record.Carried{State: record.State{
			Tx: tx, At: at, Timeout: time.Minute, Attributes: record.Attributes{record.AttributeRequestID: "r"},
			Branches: []record.Branch{
				{Participant: "bank_a", Data: []byte("x"), Vote: participant.VotePrepared, Outcome: participant.OutcomeCommitted},
				{Participant: "bank_b", Vote: participant.VoteReadOnly, Outcome: participant.OutcomeHeuristicHazard, Reason: "?"},
			},
			Preparing: true, Delegated: true, Decision: record.DecisionCommit, By: record.NoBranch, Completed: end,
		}},
		record.Carried{State: record.State{Tx: tx, Decision: record.DecisionCommit, By: record.NoBranch, Words: []record.Operator{
			{Tx: tx, Number: 1, At: at, Verb: record.VerbPause, Branch: record.NoBranch, Who: "alice", Reason: "bank_a is being restored"},
			{Tx: tx, Number: 2, At: end, Verb: record.VerbForgetBranch, Branch: 1, Reason: "gone"},
		}}},
		record.Header{Term: tx.Term, Seq: 300, Highest: tx.UUID, Mark: uuid.UUID{9}},
		record.Header{Term: tx.Term, Seq: 1, Catalogue: &record.Catalogue{Domain: "orders", Terms: terms}},
		record.Header{Term: tx.Term, Seq: 1, Catalogue: &record.Catalogue{Domain: "orders", Terms: terms, Words: record.Words{Quarantine: word(1, "restored")}}},
		record.Header{Term: tx.Term, Seq: 2, Catalogue: &record.Catalogue{Domain: "orders", Words: record.Words{
			Quarantine: word(1, "restored"), Acceptance: word(2, "compared with both banks"),
		}}},
	}
}
