package protocol

import (
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// EffectKind tells effects apart.
type EffectKind uint8

const (
	// EffectAppend: append Records to the log, forced or lazily. A forced append,
	// and a lazy one that ends in Completed, is answered by Appended. The driver
	// gives Completed its time: the machine has no clock.
	EffectAppend EffectKind = 1 + iota
	// EffectPrepare: ask Branches to prepare, in parallel; each answers with one
	// Voted.
	EffectPrepare
	// EffectCancelPrepare: the votes still missing don't matter any more. Each of
	// the calls is still answered by one Voted.
	EffectCancelPrepare
	// EffectCommit: tell Branches to commit until each is answered by
	// Acknowledged (R6).
	EffectCommit
	// EffectCommitOnePhase: let the only branch commit by itself, repeated until
	// Acknowledged.
	EffectCommitOnePhase
	// EffectRollback: tell Branches to roll back until each is answered by
	// Acknowledged (R6).
	EffectRollback
	// EffectFinish: every branch has ended, with Outcome. Outcome is zero if the
	// log failed before the outcome was known.
	EffectFinish
	// EffectForget: the completion is durable: Branches may be forgotten (R1).
	EffectForget
	// EffectPause: tell no branch anything until EffectUnpause. EffectUnpause: go on;
	// Branches are those that have not ended.
	EffectPause
	EffectUnpause
	// EffectRetry: tell Branches at once, whenever they would be told again.
	EffectRetry
	// EffectWithdraw: never tell Branches anything again.
	EffectWithdraw
)

// Effect is something the driver has to do. Effects of one Step are carried out
// in their order; it is the machine that never puts one before the append it
// depends on is known to be durable (R1).
type Effect struct {
	Kind    EffectKind
	Forced  bool
	Outcome participant.Outcome
	// Branches are those to be told or asked. Not to be modified.
	Branches []int
	records  [maxRecords]record.Record
}

// maxRecords is how many records one append has at most, maxEffects how many effects
// one Step has.
const (
	maxRecords = 2
	maxEffects = 3
)

// Records are those to be appended. The slice is the effect's own.
func (e *Effect) Records() []record.Record {
	n := 0
	for n < maxRecords && e.records[n] != nil {
		n++
	}
	return e.records[:n]
}

func appendForced(records ...record.Record) Effect {
	e := appendLazy(records...)
	e.Forced = true
	return e
}

func appendLazy(records ...record.Record) Effect {
	e := Effect{Kind: EffectAppend}
	if copy(e.records[:], records) < len(records) {
		panic("protocol: too many records for one append")
	}
	return e
}

// Effects are what one Step asks for: a value, so that a Step costs no memory of its
// own.
type Effects struct {
	list  [maxEffects]Effect
	count int
}

// All returns the effects in their order. The slice is e's own.
func (e *Effects) All() []Effect { return e.list[:e.count] }

func do(list ...Effect) (e Effects) {
	if e.count = copy(e.list[:], list); e.count < len(list) {
		panic("protocol: too many effects of one step")
	}
	return e
}

// then returns the effects of both.
func (e Effects) then(more Effects) Effects {
	all := do(e.All()...)
	if all.count += copy(all.list[e.count:], more.All()); all.count < e.count+more.count {
		panic("protocol: too many effects of one step")
	}
	return all
}
