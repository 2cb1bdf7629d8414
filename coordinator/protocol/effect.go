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
)

// Effect is something the driver has to do. Effects of one Step are carried out
// in their order; it is the machine that never puts one before the append it
// depends on is known to be durable (R1).
type Effect struct {
	Kind     EffectKind
	Records  []record.Record
	Forced   bool
	Branches []int
	Outcome  participant.Outcome
}

func appendForced(records ...record.Record) Effect {
	return Effect{Kind: EffectAppend, Records: records, Forced: true}
}

func appendLazy(records ...record.Record) Effect {
	return Effect{Kind: EffectAppend, Records: records}
}
