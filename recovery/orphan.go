package recovery

import (
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Verdict is what becomes of a prepared branch that a participant lists.
type Verdict uint8

const (
	// Leave: its transaction is live; the drive loop takes care of it.
	Leave Verdict = 1 + iota
	// TellCommit: a retained outcome says committed.
	TellCommit
	// TellRollback: a retained outcome says rolled back.
	TellRollback
	// TellPresumed: the transaction is unknown and above its term's mark, and so
	// never reached a decision: it is rolled back (R3, R13).
	TellPresumed
	// Forgotten: the transaction is at or below its term's mark. It may have
	// committed; it is listed and left to an operator (R13).
	Forgotten
	// ForeignTerm: its term is not in this log's list. It is another log's branch
	// and never touched (R10).
	ForeignTerm
	// LogTooOld: the log does not know the transaction, and is known to be older
	// than its participants: nothing is rolled back by absence (R10).
	LogTooOld
	// OtherDomain: another installation's branch, never touched (R10).
	OtherDomain
	// GivenUp: an operator gave the branch up; it is listed and left alone.
	GivenUp
	// NoBranch: its name is not that of a branch: another application prepared it.
	NoBranch
)

func (v Verdict) String() string {
	switch v {
	case Leave:
		return "leave"
	case TellCommit:
		return "commit"
	case TellRollback:
		return "roll back"
	case TellPresumed:
		return "roll back as never decided"
	case Forgotten:
		return "forgotten"
	case ForeignTerm:
		return "foreign term"
	case LogTooOld:
		return "log too old"
	case OtherDomain:
		return "other domain"
	case GivenUp:
		return "given up"
	case NoBranch:
		return "no branch"
	default:
		return fmt.Sprintf("invalid verdict %d", uint8(v))
	}
}

// Orphan is a prepared branch with what would be done about it and why.
type Orphan struct {
	// Branch has Domain, Tx, Number and Participant; of NoBranch the latter alone.
	Branch  participant.Branch
	Verdict Verdict
	Reason  string
	// Explanation is what the service shows of it; the zero value if the participant
	// is no participant.Explainer.
	Explanation participant.Explanation
}

// Marks are those of every term of a log. It must be read after the list that is
// judged by it: a transaction that begins later is above what was listed.
type Marks map[participant.Term]record.TermMarks

// Evidence is what the log and the coordinator's table say of what a participant
// lists. The table must be read before Marks: an outcome that is forgotten in
// between has raised its mark (R13).
type Evidence struct {
	Marks Marks
	// Branches are the listed ones whose transactions are known.
	Branches map[participant.XID]BranchState
	// TooOld is why the log is taken to be older than its participants: a proof, or
	// an operator's quarantine. "" if there is neither.
	TooOld string
	// Accepted is the highest term from which nothing proves the log old any more,
	// by an operator's word; 0 if there is none.
	Accepted participant.Term
}

// BranchState is how far a branch is, as its transaction has it.
type BranchState struct {
	// Decision is invalid if there is none, or none that is durable.
	Decision record.Decision
	// Live: the drive loop has yet to end the branch.
	Live bool
	// GivenUp: an operator said that nobody is to be told of it any more.
	GivenUp bool
}

// Judge says what becomes of one prepared branch, and why.
func Judge(b participant.Branch, e Evidence) (Verdict, string) {
	marks, listed := e.Marks[b.Tx.Term]
	if !listed {
		return ForeignTerm, fmt.Sprintf("term %s was never opened in this log: another log's coordinator owns the branch", b.Tx.Term)
	}
	// R10, R13: retained outcomes come first.
	branch, known := e.Branches[b.XID()]
	switch {
	case known && branch.Live:
		return Leave, "its transaction is live"
	case known && branch.GivenUp:
		return GivenUp, "an operator gave the branch up: finish it by hand, as its transaction was decided: " + branch.Decision.String()
	case known && branch.Decision == record.DecisionCommit:
		return TellCommit, "its transaction committed"
	case known && branch.Decision == record.DecisionRollback:
		return TellRollback, "its transaction was rolled back"
	case known:
		return Leave, "its transaction is undecided"
	case !marks.Begun(b.Tx.UUID) && b.Tx.Term > e.Accepted:
		return LogTooOld, fmt.Sprintf("the log knows ids of term %s only up to %s", b.Tx.Term, participant.TxID{Term: b.Tx.Term, UUID: marks.Highest})
	case marks.Forgotten(b.Tx.UUID):
		return Forgotten, "the outcome of its transaction was forgotten: it may have committed"
	case e.TooOld != "":
		return LogTooOld, "the log has no decision for its transaction, but may have lost it: " + e.TooOld
	default:
		return TellPresumed, "no decision was ever made for its transaction"
	}
}

// Sweep judges what a participant lists. The order of reading keeps it from
// taking a live branch for an orphan: the participant first, then the table and
// the log, then the participant again; only branches on both lists count.
func Sweep(name string, first, second participant.Listing, e Evidence) []Orphan {
	again := make(map[participant.XID]bool, len(second.Prepared))
	for _, b := range second.Prepared {
		again[b.XID()] = true
	}
	var orphans []Orphan
	for _, b := range first.Prepared {
		if !again[b.XID()] {
			continue
		}
		b.Participant = name
		if verdict, reason := Judge(b, e); verdict != Leave {
			orphans = append(orphans, Orphan{Branch: b, Verdict: verdict, Reason: reason})
		}
	}
	return orphans
}

// Explain adds to the orphans of a participant what its service shows of them, and
// those that are not the domain's. Branches of the domain that are not among the
// orphans are left out: their transactions are live, or they came later.
func Explain(name, domain string, orphans []Orphan, shown []participant.Explanation) []Orphan {
	at := make(map[participant.XID]int, len(orphans))
	for i, o := range orphans {
		at[o.Branch.XID()] = i
	}
	for _, e := range shown {
		o := Orphan{Branch: e.Branch, Explanation: e}
		o.Branch.Participant = name
		switch i, listed := at[e.Branch.XID()]; {
		case e.Branch.Domain == "":
			o.Verdict, o.Reason = NoBranch, "its name is not that of a branch: another application prepared it, and has to finish it"
		case e.Branch.Domain != domain:
			o.Verdict, o.Reason = OtherDomain, fmt.Sprintf("it is of domain %q: another installation's coordinator owns the branch", e.Branch.Domain)
		case listed:
			orphans[i].Explanation = e
			continue
		default:
			continue
		}
		orphans = append(orphans, o)
	}
	return orphans
}

// ProofOfOldLog returns why a participant's list proves that the log is older
// than what the participant saw (R10), or "" if it does not. Terms up to accepted
// prove nothing, by an operator's word.
func ProofOfOldLog(name string, l participant.Listing, marks Marks, accepted participant.Term) string {
	for _, id := range listedIDs(l) {
		if marks, listed := marks[id.Term]; listed && id.Term > accepted && !marks.Begun(id.UUID) {
			return fmt.Sprintf("participant %q knows transaction %s, but the log knows ids of that term only up to %s: the log is older than its participants, restored from a backup perhaps",
				name, id, participant.TxID{Term: id.Term, UUID: marks.Highest})
		}
	}
	return ""
}

// ForeignTerms returns the terms on a participant's list that are not the log's, in
// order. They are other logs', or the log's own from a time that it has lost: it
// was restored from a backup older than its last start.
func ForeignTerms(l participant.Listing, marks Marks) (foreign []participant.Term) {
	for _, id := range listedIDs(l) {
		if _, listed := marks[id.Term]; !listed {
			foreign = append(foreign, id.Term)
		}
	}
	slices.Sort(foreign)
	return slices.Compact(foreign)
}

func listedIDs(l participant.Listing) []participant.TxID {
	ids := slices.Clone(l.Highest)
	for _, b := range l.Prepared {
		ids = append(ids, b.Tx)
	}
	return ids
}
