package client

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

var decisions = map[assentv1.Decision]record.Decision{
	assentv1.Decision_DECISION_COMMIT:   record.DecisionCommit,
	assentv1.Decision_DECISION_ROLLBACK: record.DecisionRollback,
}

var votes = map[assentv1.Vote]participant.Vote{
	assentv1.Vote_VOTE_PREPARED:  participant.VotePrepared,
	assentv1.Vote_VOTE_READ_ONLY: participant.VoteReadOnly,
	assentv1.Vote_VOTE_REFUSED:   participant.VoteRefused,
}

var outcomes = map[assentv1.Outcome]participant.Outcome{
	assentv1.Outcome_OUTCOME_COMMITTED:          participant.OutcomeCommitted,
	assentv1.Outcome_OUTCOME_ROLLED_BACK:        participant.OutcomeRolledBack,
	assentv1.Outcome_OUTCOME_HEURISTIC_COMMIT:   participant.OutcomeHeuristicCommit,
	assentv1.Outcome_OUTCOME_HEURISTIC_ROLLBACK: participant.OutcomeHeuristicRollback,
	assentv1.Outcome_OUTCOME_HEURISTIC_HAZARD:   participant.OutcomeHeuristicHazard,
	assentv1.Outcome_OUTCOME_HEURISTIC_MIXED:    participant.OutcomeHeuristicMixed,
}

var causes = map[assentv1.Cause]record.Cause{
	assentv1.Cause_CAUSE_REQUESTED:    record.CauseRequested,
	assentv1.Cause_CAUSE_REFUSED:      record.CauseRefused,
	assentv1.Cause_CAUSE_UNKNOWN_VOTE: record.CauseUnknownVote,
	assentv1.Cause_CAUSE_TIMEOUT:      record.CauseTimeout,
	assentv1.Cause_CAUSE_PRESUMED:     record.CausePresumed,
	assentv1.Cause_CAUSE_CLOSED:       record.CauseClosed,
	assentv1.Cause_CAUSE_CONTEXT:      record.CauseContext,
}

var phases = map[assentv1.State]protocol.Phase{
	assentv1.State_STATE_ACTIVE:       protocol.Active,
	assentv1.State_STATE_PREPARING:    protocol.Preparing,
	assentv1.State_STATE_DELEGATED:    protocol.Delegated,
	assentv1.State_STATE_INHERITED:    protocol.Inherited,
	assentv1.State_STATE_COMMITTING:   protocol.Telling,
	assentv1.State_STATE_ROLLING_BACK: protocol.Telling,
	assentv1.State_STATE_COMMITTED:    protocol.Done,
	assentv1.State_STATE_ROLLED_BACK:  protocol.Done,
	assentv1.State_STATE_HEURISTIC:    protocol.Done,
	assentv1.State_STATE_UNKNOWN:      protocol.Stopped,
}

// newInfo reads what the server says of a transaction.
func newInfo(t *assentv1.Transaction) (coordinator.Info, error) {
	id, err := participant.ParseTxID(t.GetTransactionId())
	if err != nil {
		return coordinator.Info{}, err
	}
	info := coordinator.Info{
		ID: id, Name: t.GetName(), Owner: t.GetOwner(), RequestID: t.GetRequestId(),
		Begun: timeOf(t.GetBegun()), Deadline: timeOf(t.GetDeadline()), Phase: phases[t.GetState()],
		Decision: decisions[t.GetDecision()], Outcome: outcomes[t.GetOutcome()], Cause: causes[t.GetCause()], Reason: t.GetReason(),
		Paused: t.GetPaused(),
	}
	for _, b := range t.GetBranches() {
		info.Branches = append(info.Branches, coordinator.BranchInfo{
			Number: int(b.GetNumber()), Participant: b.GetParticipant(), Vote: votes[b.GetVote()], Outcome: outcomes[b.GetOutcome()],
			Hazard: b.GetHazard(), Missing: b.GetMissing(), Attempts: int(b.GetAttempts()), LastError: b.GetLastError(), NextRetry: timeOf(b.GetNextRetry()),
		})
	}
	return info, nil
}

func timeOf(at *timestamppb.Timestamp) time.Time {
	if at == nil || !at.IsValid() {
		return time.Time{}
	}
	return at.AsTime()
}
