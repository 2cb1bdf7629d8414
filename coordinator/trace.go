package coordinator

import (
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// Trace is a set of functions that are called when something happens to a
// transaction; those that are nil are not. They are called concurrently, from the
// coordinator's goroutines and from those that call it, and must return at once.
type Trace struct {
	// Begun: a transaction exists.
	Begun func(tx participant.TxID)
	// Enlisted: a branch joined it.
	Enlisted func(b participant.Branch)
	// Voted: a branch's Prepare returned after so long; an invalid vote is
	// unknown.
	Voted func(b participant.Branch, vote participant.Vote, err error, took time.Duration)
	// Decided: the decision holds for ever. For a commit that some participant
	// depends on it is durable.
	Decided func(tx participant.TxID, decision record.Decision, cause record.Cause)
	// Told: a call of Commit, Rollback or CommitOnePhase returned. For CommitOnePhase
	// decision is commit though nothing is decided before the branch answers.
	Told func(b participant.Branch, decision record.Decision, attempt int, err error, took time.Duration)
	// Finished: every branch has ended. An outcome of zero means that the log
	// failed.
	Finished func(tx participant.TxID, outcome participant.Outcome)
	// Inherited: what recovery does about the transactions that former coordinators
	// left. Called once, from Open; the plan may be empty, and is not to be modified.
	Inherited func(plan recovery.Plan)
	// Orphan: a sweep found a prepared branch that no live transaction has.
	Orphan func(o recovery.Orphan)
	// SafeMode: the log proved to be older than its participants, or is in
	// quarantine (R10).
	SafeMode func(why string)
}

// JoinTraces returns a trace that calls the functions of all, in this order. Those that
// are nil cost nothing.
func JoinTraces(traces ...*Trace) *Trace {
	joined := &Trace{}
	for _, t := range traces {
		if t == nil {
			continue
		}
		joined = &Trace{
			Begun:     join1(joined.Begun, t.Begun),
			Enlisted:  join1(joined.Enlisted, t.Enlisted),
			Voted:     join4(joined.Voted, t.Voted),
			Decided:   join3(joined.Decided, t.Decided),
			Told:      join5(joined.Told, t.Told),
			Finished:  join2(joined.Finished, t.Finished),
			Inherited: join1(joined.Inherited, t.Inherited),
			Orphan:    join1(joined.Orphan, t.Orphan),
			SafeMode:  join1(joined.SafeMode, t.SafeMode),
		}
	}
	return joined
}

func join1[A any](f, g func(A)) func(A) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(a A) { f(a); g(a) }
}

func join2[A, B any](f, g func(A, B)) func(A, B) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(a A, b B) { f(a, b); g(a, b) }
}

func join3[A, B, C any](f, g func(A, B, C)) func(A, B, C) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(a A, b B, c C) { f(a, b, c); g(a, b, c) }
}

func join4[A, B, C, D any](f, g func(A, B, C, D)) func(A, B, C, D) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(a A, b B, c C, d D) { f(a, b, c, d); g(a, b, c, d) }
}

func join5[A, B, C, D, E any](f, g func(A, B, C, D, E)) func(A, B, C, D, E) {
	if f == nil || g == nil {
		return either(f == nil, g, f)
	}
	return func(a A, b B, c C, d D, e E) { f(a, b, c, d, e); g(a, b, c, d, e) }
}

func either[F any](first bool, a, b F) F {
	if first {
		return a
	}
	return b
}

func (t *Trace) begun(tx participant.TxID) {
	if t.Begun != nil {
		t.Begun(tx)
	}
}

func (t *Trace) enlisted(b participant.Branch) {
	if t.Enlisted != nil {
		t.Enlisted(b)
	}
}

// start returns the time if somebody wants to know how long a vote takes.
func (t *Trace) start() (now time.Time) {
	if t.Voted != nil {
		now = time.Now()
	}
	return now
}

func (t *Trace) voted(b participant.Branch, vote participant.Vote, err error, start time.Time) {
	if t.Voted != nil {
		t.Voted(b, vote, err, time.Since(start))
	}
}

func (t *Trace) decided(tx participant.TxID, decision record.Decision, cause record.Cause) {
	if t.Decided != nil {
		t.Decided(tx, decision, cause)
	}
}

func (t *Trace) told(b participant.Branch, decision record.Decision, attempt int, err error, start time.Time) {
	if t.Told != nil {
		t.Told(b, decision, attempt, err, time.Since(start))
	}
}

func (t *Trace) finished(tx participant.TxID, outcome participant.Outcome) {
	if t.Finished != nil {
		t.Finished(tx, outcome)
	}
}

func (t *Trace) inherited(plan recovery.Plan) {
	if t.Inherited != nil {
		t.Inherited(plan)
	}
}

func (t *Trace) orphan(o recovery.Orphan) {
	if t.Orphan != nil {
		t.Orphan(o)
	}
}

func (t *Trace) safeMode(why string) {
	if t.SafeMode != nil {
		t.SafeMode(why)
	}
}
