package history_test

import (
	"fmt"

	h "github.com/assent-tm/assent/recovery/crashtest/history"
)

// Short names for the events of tests.

func header(sees ...h.Sight) h.Event {
	return h.Event{Kind: h.KindHistory, Version: h.Version, Sees: sees}
}
func of(kind h.Kind, tx string) h.Event { return h.Event{Kind: kind, Tx: tx} }
func at(kind h.Kind, tx string, branch int) h.Event {
	return h.Event{Kind: kind, Tx: tx, Branch: &branch}
}

func outcome(kind h.Kind, tx string, branch int, o h.Outcome) h.Event {
	return h.Event{Kind: kind, Tx: tx, Branch: &branch, Outcome: o}
}

func vote(tx string, branch int, v h.Vote) h.Event {
	return h.Event{Kind: h.KindVote, Tx: tx, Branch: &branch, Vote: v}
}

func enlist(tx string, branch int) h.Event {
	return h.Event{Kind: h.KindEnlist, Tx: tx, Branch: &branch, Participant: name(branch)}
}
func name(branch int) string { return fmt.Sprintf("p%d", branch) }
func decided(tx string, o h.Outcome) h.Event {
	return h.Event{Kind: h.KindDecided, Tx: tx, Outcome: o}
}

func lazily(tx string, o h.Outcome) h.Event {
	return h.Event{Kind: h.KindDecided, Tx: tx, Outcome: o, Lazy: true}
}

func recovered(tx string, o h.Outcome) h.Event {
	return h.Event{Kind: h.KindRecover, Tx: tx, Outcome: o}
}

func tell(tx string, branch int, o h.Outcome) h.Event { return outcome(h.KindTell, tx, branch, o) }
func ack(tx string, branch int, o h.Outcome) h.Event  { return outcome(h.KindAck, tx, branch, o) }

func onePhase(tx string) h.Event {
	e := tell(tx, 0, h.Commit)
	e.OnePhase = true
	return e
}

func call(number int64, tx string, op h.Op) h.Event {
	return h.Event{Kind: h.KindCall, Call: &number, Tx: tx, Op: op}
}

func answer(number int64, o h.Outcome) h.Event {
	return h.Event{Kind: h.KindAnswer, Call: &number, Outcome: o}
}

func counted(kind h.Kind, participant string, n int) h.Event {
	return h.Event{Kind: kind, Participant: participant, Count: &n}
}

func row(participant, tx string) h.Event {
	return h.Event{Kind: h.KindWitness, Participant: participant, Tx: tx}
}

func sum(n int64) h.Event { return h.Event{Kind: h.KindSum, Sum: &n} }

func plant(participant, xid string, owner h.Owner) h.Event {
	return h.Event{Kind: h.KindPlanted, Participant: participant, XID: xid, Owner: owner}
}

func finished(participant, xid string, o h.Outcome) h.Event {
	return h.Event{Kind: h.KindFinished, Participant: participant, XID: xid, Outcome: o}
}

func left(participant, xid string) h.Event {
	return h.Event{Kind: h.KindLeft, Participant: participant, XID: xid}
}

var (
	crash    = h.Event{Kind: h.KindCrash}
	start    = h.Event{Kind: h.KindStart}
	fault    = h.Event{Kind: h.KindFault, Participant: "p0"}
	repaired = h.Event{Kind: h.KindRepaired}
	settled  = h.Event{Kind: h.KindSettled}
)

// begun is transaction t with its branches prepared, voted as given.
func begun(votes ...h.Vote) []h.Event {
	events := []h.Event{of(h.KindBegin, "t")}
	for n := range votes {
		events = append(events, enlist("t", n))
	}
	if len(votes) > 0 {
		events = append(events, of(h.KindPreparing, "t"))
	}
	for n := range votes {
		events = append(events, at(h.KindPrepare, "t", n))
	}
	for n, v := range votes {
		if v != "" {
			events = append(events, vote("t", n, v))
		}
	}
	return events
}

func history(parts ...any) []h.Event {
	events := []h.Event{header(h.SeesLog, h.SeesEffects)}
	for _, part := range parts {
		switch part := part.(type) {
		case h.Event:
			events = append(events, part)
		case []h.Event:
			events = append(events, part...)
		}
	}
	return events
}
