package server

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// The enums of the API and those of the coordinator are written down side by side:
// neither's numbers are to bind the other's.

func decision(d record.Decision) assentv1.Decision {
	switch d {
	case record.DecisionCommit:
		return assentv1.Decision_DECISION_COMMIT
	case record.DecisionRollback:
		return assentv1.Decision_DECISION_ROLLBACK
	default:
		return assentv1.Decision_DECISION_UNSPECIFIED
	}
}

func vote(v participant.Vote) assentv1.Vote {
	switch v {
	case participant.VotePrepared:
		return assentv1.Vote_VOTE_PREPARED
	case participant.VoteReadOnly:
		return assentv1.Vote_VOTE_READ_ONLY
	case participant.VoteRefused:
		return assentv1.Vote_VOTE_REFUSED
	default:
		return assentv1.Vote_VOTE_UNSPECIFIED
	}
}

func outcome(o participant.Outcome) assentv1.Outcome {
	switch o {
	case participant.OutcomeCommitted:
		return assentv1.Outcome_OUTCOME_COMMITTED
	case participant.OutcomeRolledBack:
		return assentv1.Outcome_OUTCOME_ROLLED_BACK
	case participant.OutcomeHeuristicCommit:
		return assentv1.Outcome_OUTCOME_HEURISTIC_COMMIT
	case participant.OutcomeHeuristicRollback:
		return assentv1.Outcome_OUTCOME_HEURISTIC_ROLLBACK
	case participant.OutcomeHeuristicHazard:
		return assentv1.Outcome_OUTCOME_HEURISTIC_HAZARD
	case participant.OutcomeHeuristicMixed:
		return assentv1.Outcome_OUTCOME_HEURISTIC_MIXED
	default:
		return assentv1.Outcome_OUTCOME_UNSPECIFIED
	}
}

func cause(c record.Cause) assentv1.Cause {
	switch c {
	case record.CauseRequested:
		return assentv1.Cause_CAUSE_REQUESTED
	case record.CauseRefused:
		return assentv1.Cause_CAUSE_REFUSED
	case record.CauseUnknownVote:
		return assentv1.Cause_CAUSE_UNKNOWN_VOTE
	case record.CauseTimeout:
		return assentv1.Cause_CAUSE_TIMEOUT
	case record.CausePresumed:
		return assentv1.Cause_CAUSE_PRESUMED
	case record.CauseClosed:
		return assentv1.Cause_CAUSE_CLOSED
	case record.CauseContext:
		return assentv1.Cause_CAUSE_CONTEXT
	default:
		return assentv1.Cause_CAUSE_UNSPECIFIED
	}
}

func inquiry(q coordinator.Inquiry) assentv1.Inquiry {
	switch q {
	case coordinator.InquiryCommitted:
		return assentv1.Inquiry_INQUIRY_COMMITTED
	case coordinator.InquiryRolledBack:
		return assentv1.Inquiry_INQUIRY_ROLLED_BACK
	case coordinator.InquiryUndecided:
		return assentv1.Inquiry_INQUIRY_UNDECIDED
	default:
		return assentv1.Inquiry_INQUIRY_UNKNOWN
	}
}

func state(i *coordinator.Info) assentv1.State {
	switch i.Phase {
	case protocol.Active, protocol.Sealing:
		return assentv1.State_STATE_ACTIVE
	case protocol.Preparing, protocol.Deciding:
		return assentv1.State_STATE_PREPARING
	case protocol.Delegating, protocol.Delegated:
		return assentv1.State_STATE_DELEGATED
	case protocol.Inherited:
		return assentv1.State_STATE_INHERITED
	case protocol.Telling:
		if i.Decision == record.DecisionCommit {
			return assentv1.State_STATE_COMMITTING
		}
		return assentv1.State_STATE_ROLLING_BACK
	case protocol.Completing, protocol.Done:
		switch i.Outcome {
		case participant.OutcomeCommitted:
			return assentv1.State_STATE_COMMITTED
		case participant.OutcomeRolledBack:
			return assentv1.State_STATE_ROLLED_BACK
		default:
			return assentv1.State_STATE_HEURISTIC
		}
	case protocol.Stopped:
		return assentv1.State_STATE_UNKNOWN
	default:
		return assentv1.State_STATE_UNSPECIFIED
	}
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// transaction returns what a caller may see of a transaction of the domain. What failed
// calls returned is for those who may look at everybody's.
func transaction(domain string, i *coordinator.Info, everything bool) *assentv1.Transaction {
	t := &assentv1.Transaction{
		TransactionId: i.ID.String(), Name: i.Name, Owner: i.Owner, RequestId: i.RequestID,
		State: state(i), Decision: decision(i.Decision), Outcome: outcome(i.Outcome),
		Begun: timestamp(i.Begun), Deadline: timestamp(i.Deadline),
		Cause: cause(i.Cause), Branches: make([]*assentv1.Branch, 0, len(i.Branches)), Paused: i.Paused,
	}
	if everything || i.Cause != record.CauseUnknownVote {
		t.Reason = i.Reason
	}
	for n := range i.Branches {
		b := &i.Branches[n]
		branch := &assentv1.Branch{
			Number: uint32(b.Number), Participant: b.Participant, Xid: string(participant.Branch{Domain: domain, Tx: i.ID, Number: b.Number}.XID()),
			Vote: vote(b.Vote), Outcome: outcome(b.Outcome), Hazard: b.Hazard, Missing: b.Missing,
			Attempts: uint32(b.Attempts), NextRetry: timestamp(b.NextRetry),
		}
		if everything {
			branch.LastError = b.LastError
		}
		t.Branches = append(t.Branches, branch)
	}
	return t
}

// words returns what operators said of a transaction.
func words(i *coordinator.Info, said []record.Operator) []*assentv1.OperatorWord {
	all := make([]*assentv1.OperatorWord, 0, len(said))
	for _, w := range said {
		word := &assentv1.OperatorWord{At: timestamp(w.At), Verb: w.Verb.String(), Outcome: outcome(w.Outcome), Who: w.Who, Reason: w.Reason}
		if 0 <= w.Branch && w.Branch < len(i.Branches) {
			word.Participant = i.Branches[w.Branch].Participant
		}
		all = append(all, word)
	}
	return all
}
