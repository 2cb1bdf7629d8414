package server

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// admin is the AdminService. What operators say is recorded in the log under the name
// of their identity, which no request can give.
type admin struct{ s *Server }

var _ assentv1connect.AdminServiceHandler = admin{}

// here is who says what where nobody is asked who he is.
const here = "local"

// word returns what an operator gives with what he asks for.
func word(ctx context.Context, reason string, dryRun bool) (coordinator.Word, *failure) {
	w := coordinator.Word{Who: caller(ctx).Name, Reason: reason, DryRun: dryRun}
	if w.Who == "" {
		w.Who = here
	}
	switch {
	case reason == "":
		return w, invalid("reason: it is missing, and kept in the log: say why")
	case len(reason) > record.MaxReason:
		return w, invalid("reason: %d bytes are more than %d", len(reason), record.MaxReason)
	}
	return w, nil
}

// asked is what an operator's request has, whatever it asks for.
type asked interface {
	GetTransactionId() string
	GetReason() string
	GetDryRun() bool
}

// saying is a method of the coordinator that takes an operator's word.
type saying func(context.Context, participant.TxID, coordinator.Word) ([]string, error)

// say reads what all words have, and says this one.
func (a admin) say(ctx context.Context, r asked, verb saying) ([]string, error) {
	id, f := transactionID(r.GetTransactionId())
	if f != nil {
		return nil, f.status()
	}
	w, f := word(ctx, r.GetReason(), r.GetDryRun())
	if f != nil {
		return nil, f.status()
	}
	actions, err := verb(ctx, id, w)
	if err != nil {
		return nil, failed(r.GetTransactionId(), err).status()
	}
	return actions, nil
}

func (a admin) Retry(ctx context.Context, r *assentv1.RetryRequest) (*assentv1.RetryResponse, error) {
	actions, err := a.say(ctx, r, a.s.dtm.Retry)
	return &assentv1.RetryResponse{Actions: actions}, err
}

func (a admin) Pause(ctx context.Context, r *assentv1.PauseRequest) (*assentv1.PauseResponse, error) {
	actions, err := a.say(ctx, r, a.s.dtm.Pause)
	return &assentv1.PauseResponse{Actions: actions}, err
}

func (a admin) Resume(ctx context.Context, r *assentv1.ResumeRequest) (*assentv1.ResumeResponse, error) {
	actions, err := a.say(ctx, r, a.s.dtm.Resume)
	return &assentv1.ResumeResponse{Actions: actions}, err
}

func (a admin) ForgetBranch(ctx context.Context, r *assentv1.ForgetBranchRequest) (*assentv1.ForgetBranchResponse, error) {
	if f := named(r.GetParticipant()); f != nil {
		return nil, f.status()
	}
	actions, err := a.say(ctx, r, func(ctx context.Context, id participant.TxID, w coordinator.Word) ([]string, error) {
		return a.s.dtm.ForgetBranch(ctx, id, r.GetParticipant(), w)
	})
	return &assentv1.ForgetBranchResponse{Actions: actions}, err
}

func (a admin) Resolve(ctx context.Context, r *assentv1.ResolveRequest) (*assentv1.ResolveResponse, error) {
	if f := named(r.GetParticipant()); f != nil {
		return nil, f.status()
	}
	var by participant.Outcome
	switch r.GetOutcome() {
	case assentv1.Outcome_OUTCOME_COMMITTED:
		by = participant.OutcomeCommitted
	case assentv1.Outcome_OUTCOME_ROLLED_BACK:
		by = participant.OutcomeRolledBack
	default:
		return nil, invalid("outcome: want OUTCOME_COMMITTED or OUTCOME_ROLLED_BACK: what became of the branch").status()
	}
	actions, err := a.say(ctx, r, func(ctx context.Context, id participant.TxID, w coordinator.Word) ([]string, error) {
		return a.s.dtm.Resolve(ctx, id, r.GetParticipant(), by, w)
	})
	return &assentv1.ResolveResponse{Actions: actions}, err
}

func named(name string) *failure {
	if participant.ValidName(name) != nil {
		return invalid("participant: %q is not the name of one", name)
	}
	return nil
}

func (a admin) Orphans(ctx context.Context, _ *assentv1.OrphansRequest) (*assentv1.OrphansResponse, error) {
	orphans, err := a.s.dtm.Orphans(ctx)
	response := &assentv1.OrphansResponse{Orphans: make([]*assentv1.Orphan, 0, len(orphans))}
	for _, o := range orphans {
		orphan := &assentv1.Orphan{
			Participant: o.Branch.Participant, Action: o.Verdict.String(), Reason: o.Reason,
			Name: o.Explanation.Name, CommitStatement: o.Explanation.Commit, RollbackStatement: o.Explanation.Rollback,
		}
		if !o.Branch.Tx.IsZero() {
			orphan.Xid, orphan.TransactionId = string(o.Branch.XID()), o.Branch.Tx.String()
		}
		response.Orphans = append(response.Orphans, orphan)
	}
	for _, failure := range apart(err) {
		response.Failures = append(response.Failures, failure.Error())
	}
	return response, nil
}

// apart returns the errors that were joined.
func apart(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // of this error, not of one that it wraps
		return joined.Unwrap()
	}
	return []error{err}
}

func (a admin) Status(context.Context, *assentv1.StatusRequest) (*assentv1.StatusResponse, error) {
	stats := a.s.dtm.Stats()
	response := &assentv1.StatusResponse{
		Version: a.s.config.Version, Domain: stats.Domain, Started: timestamp(stats.Started),
		Undecided: uint64(stats.Undecided), InDoubt: uint64(stats.InDoubt),
		Log: &assentv1.LogStatus{Path: a.s.config.LogPath, Bytes: uint64(stats.Log.Bytes), Term: stats.Term.String(), Epoch: stats.Epoch},
	}
	response.Condition, response.Reason = a.s.condition(stats)
	if !stats.OldestInDoubt.IsZero() {
		response.OldestInDoubt = durationpb.New(time.Since(stats.OldestInDoubt))
	}
	for _, p := range a.s.dtm.Participants() {
		response.Participants = append(response.Participants, a.s.participantStatus(p))
	}
	return response, nil
}

// condition says how the server is, the first that holds, and why it does not serve.
func (s *Server) condition(stats coordinator.Stats) (condition, reason string) {
	why, safeMode := s.dtm.SafeMode()
	switch err := s.dtm.Err(); {
	case err != nil:
		return "FAILED", err.Error()
	case s.draining.Load():
		return "DRAINING", "it ends: nothing new begins"
	case safeMode:
		return "SAFE_MODE", why
	case stats.Inherited > 0:
		return "RECOVERING", fmt.Sprintf("%d transactions of former coordinators are still to be finished", stats.Inherited)
	default:
		return "SERVING", ""
	}
}

func (s *Server) participantStatus(p coordinator.ParticipantInfo) *assentv1.ParticipantStatus {
	status := &assentv1.ParticipantStatus{
		Name: p.Name, Kind: s.config.Kinds[p.Name], Down: p.Down,
		Undelivered: uint64(p.Undelivered), InFlight: uint32(p.InFlight), LastError: p.LastError,
	}
	switch {
	case p.Missing:
		status.Kind = "missing"
	case status.Kind == "":
		status.Kind = "go"
	}
	if s.config.Hub != nil {
		status.Instances = uint32(len(s.config.Hub.Instances(p.Name)))
	}
	return status
}
