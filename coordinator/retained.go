package coordinator

import (
	"slices"
	"time"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// retained is what is kept of a transaction that has ended, for those who ask
// again (R13). There may be hundreds of thousands: it holds no more than an answer
// needs.
type retained struct {
	begun     int64 // Unix milliseconds; 0 if unknown
	completed int64
	decision  record.Decision
	cause     record.Cause
	by        int8
	presumed  bool
	branches  []retainedBranch // shared by those that are alike
	texts     *retainedTexts   // nil if there are none
}

type retainedTexts struct {
	attributes record.Attributes
	reason     string
	words      []record.Operator
}

type retainedBranch struct {
	endpoint *endpoint
	vote     participant.Vote
	outcome  participant.Outcome
}

// retain returns what is kept of a transaction that is done. It shares like if its
// branches are alike: most transactions' are.
func (t *transaction) retain(like []retainedBranch) retained {
	t.mu.Lock()
	defer t.mu.Unlock()
	decided := t.machine.Decided()
	r := retained{
		begun: milli(t.begun.At), completed: milli(time.Now()),
		decision: t.machine.Decision(), cause: decided.Cause, by: int8(decided.By), presumed: decided.Presumed,
	}
	if words := t.machine.Words(); len(t.begun.Attributes) > 0 || decided.Reason != "" || words != nil {
		r.texts = &retainedTexts{attributes: t.begun.Attributes, reason: decided.Reason, words: words}
	}
	var room [4]retainedBranch
	branches := room[:0]
	for i, b := range t.machine.Branches() {
		branches = append(branches, retainedBranch{endpoint: t.branches[i].endpoint, vote: b.Vote, outcome: b.Outcome})
	}
	if r.branches = like; !slices.Equal(branches, like) {
		r.branches = slices.Clone(branches)
	}
	return r
}

func (r *retained) attributes() record.Attributes {
	if r.texts == nil {
		return nil
	}
	return r.texts.attributes
}

// revive returns a transaction that is done and answers as the one did that r was
// made of. It is the caller's own.
func (r *retained) revive(id participant.TxID) *transaction {
	s := record.NewState(id)
	s.Decision, s.Cause, s.By, s.Presumed = r.decision, r.cause, int(r.by), r.presumed
	if r.texts != nil {
		s.Reason, s.Words = r.texts.reason, r.texts.words
	}
	s.Completed = time.UnixMilli(r.completed)
	t := &transaction{id: id, begun: record.Begun{Tx: id, At: unmilli(r.begun), Attributes: r.attributes()}, settled: true}
	for _, b := range r.branches {
		s.Branches = append(s.Branches, record.Branch{Participant: b.endpoint.name, Vote: b.vote, Outcome: b.outcome})
		t.branches = append(t.branches, branch{endpoint: b.endpoint})
	}
	t.machine = protocol.Resume(s)
	t.decided.release()
	t.finished.release()
	return t
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func unmilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
