package coordinator

import (
	"time"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// retained is what is kept of a transaction that has ended, for those who ask
// again (R13). There may be hundreds of thousands: it holds no more than an answer
// needs.
type retained struct {
	begun      int64 // Unix milliseconds; 0 if unknown
	completed  int64
	attributes record.Attributes
	decision   record.Decision
	cause      record.Cause
	by         int8
	presumed   bool
	reason     string
	branches   []retainedBranch
}

type retainedBranch struct {
	endpoint *endpoint
	vote     participant.Vote
	outcome  participant.Outcome
}

// retain returns what is kept of a transaction that is done.
func (t *transaction) retain() retained {
	t.mu.Lock()
	defer t.mu.Unlock()
	decided := t.machine.Decided()
	r := retained{
		begun: milli(t.begun.At), completed: milli(time.Now()), attributes: t.begun.Attributes,
		decision: t.machine.Decision(), cause: decided.Cause, by: int8(decided.By), presumed: decided.Presumed, reason: decided.Reason,
	}
	if n := len(t.branches); n > 0 {
		r.branches = make([]retainedBranch, n)
	}
	for i, b := range t.machine.Branches() {
		r.branches[i] = retainedBranch{endpoint: t.branches[i].endpoint, vote: b.Vote, outcome: b.Outcome}
	}
	return r
}

// revive returns a transaction that is done and answers as the one did that r was
// made of. It is the caller's own.
func (r *retained) revive(id participant.TxID) *transaction {
	s := record.NewState(id)
	s.Decision, s.Cause, s.By, s.Presumed, s.Reason = r.decision, r.cause, int(r.by), r.presumed, r.reason
	s.Completed = time.UnixMilli(r.completed)
	t := &transaction{id: id, begun: record.Begun{Tx: id, At: unmilli(r.begun), Attributes: r.attributes}, told: true}
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
