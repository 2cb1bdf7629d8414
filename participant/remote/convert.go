package remote

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// maxReason is how many bytes of an explanation are passed on: it becomes part of
// records and of errors (R12).
const maxReason = 1 << 10

// newBranchRef returns what a service is told of a branch.
func newBranchRef(b participant.Branch) *assentv1.BranchRef {
	ref := &assentv1.BranchRef{
		Domain: b.Domain, TransactionId: b.Tx.String(), Epoch: b.Epoch, Number: uint32(b.Number), Participant: b.Participant, Data: b.Data,
	}
	if at := timestamppb.New(b.Deadline); !b.Deadline.IsZero() && at.IsValid() {
		ref.Deadline = at
	}
	return ref
}

// newBranchName returns what names a branch, and nothing else of it.
func newBranchName(b participant.Branch) *assentv1.BranchRef {
	return &assentv1.BranchRef{Domain: b.Domain, TransactionId: b.Tx.String(), Number: uint32(b.Number), Participant: b.Participant}
}

// readBranchRef reads what newBranchRef and newBranchName write. Nothing that it accepts
// makes an XID that another branch has.
func readBranchRef(ref *assentv1.BranchRef) (participant.Branch, error) {
	if ref == nil {
		return participant.Branch{}, errors.New("no branch is given")
	}
	if err := participant.ValidDomain(ref.Domain); err != nil {
		return participant.Branch{}, err
	}
	tx, err := participant.ParseTxID(ref.TransactionId)
	if err != nil {
		return participant.Branch{}, err
	}
	b := participant.Branch{
		Domain: ref.Domain, Tx: tx, Epoch: ref.Epoch, Number: int(ref.Number), Participant: ref.Participant, Data: ref.Data,
	}
	switch {
	case ref.Number >= participant.MaxBranches:
		return participant.Branch{}, fmt.Errorf("branch number %d is not 0 to %d", ref.Number, participant.MaxBranches-1)
	case len(ref.Data) > participant.MaxData:
		return participant.Branch{}, fmt.Errorf("%d bytes of data, limit %d", len(ref.Data), participant.MaxData)
	}
	if ref.Participant != "" {
		if err := participant.ValidName(ref.Participant); err != nil {
			return participant.Branch{}, err
		}
	}
	if ref.Deadline != nil {
		if err := ref.Deadline.CheckValid(); err != nil {
			return participant.Branch{}, fmt.Errorf("deadline: %w", err)
		}
		b.Deadline = ref.Deadline.AsTime()
	}
	return b, nil
}

// newPrepareResponse returns a service's answer to Prepare; an error if it gave none.
func newPrepareResponse(vote participant.Vote, err error) (*assentv1.PrepareResponse, error) {
	switch {
	case errors.Is(err, participant.ErrStaleEpoch):
		// No vote: the refusal is of the coordinator, not of the branch (R9).
		return nil, err
	case vote == participant.VoteRefused:
		return &assentv1.PrepareResponse{Vote: assentv1.Vote_VOTE_REFUSED, Reason: reasonOf(err)}, nil
	case err != nil:
		return nil, err // R4: unknown, whatever the vote is said to be
	case vote == participant.VotePrepared:
		return &assentv1.PrepareResponse{Vote: assentv1.Vote_VOTE_PREPARED}, nil
	case vote == participant.VoteReadOnly:
		return &assentv1.PrepareResponse{Vote: assentv1.Vote_VOTE_READ_ONLY}, nil
	default:
		return nil, fmt.Errorf("participant returned %s", vote)
	}
}

// readPrepareResponse reads an answer to Prepare. A refusal's error is its reason; an
// answer that says nothing is unknown (R4).
func readPrepareResponse(r *assentv1.PrepareResponse) (participant.Vote, error) {
	switch r.GetVote() {
	case assentv1.Vote_VOTE_PREPARED:
		return participant.VotePrepared, nil
	case assentv1.Vote_VOTE_READ_ONLY:
		return participant.VoteReadOnly, nil
	case assentv1.Vote_VOTE_REFUSED:
		return participant.VoteRefused, told(participant.ErrRefused, r.GetReason())
	default:
		return 0, fmt.Errorf("the answer's vote, %s, is not one of PREPARED, READ_ONLY and REFUSED", r.GetVote())
	}
}

// stateOutcomes are the states that tell how a branch ended.
var stateOutcomes = map[assentv1.BranchState]participant.Outcome{
	assentv1.BranchState_BRANCH_STATE_COMMITTED:          participant.OutcomeCommitted,
	assentv1.BranchState_BRANCH_STATE_ROLLED_BACK:        participant.OutcomeRolledBack,
	assentv1.BranchState_BRANCH_STATE_HEURISTIC_COMMIT:   participant.OutcomeHeuristicCommit,
	assentv1.BranchState_BRANCH_STATE_HEURISTIC_ROLLBACK: participant.OutcomeHeuristicRollback,
	assentv1.BranchState_BRANCH_STATE_HEURISTIC_HAZARD:   participant.OutcomeHeuristicHazard,
	assentv1.BranchState_BRANCH_STATE_HEURISTIC_MIXED:    participant.OutcomeHeuristicMixed,
}

// newCommitResponse returns a service's answer to Commit; an error if it gave none.
func newCommitResponse(err error) (*assentv1.ParticipantServiceCommitResponse, error) {
	state, reason, err := newState(assentv1.BranchState_BRANCH_STATE_COMMITTED, err)
	if err != nil {
		return nil, err
	}
	return &assentv1.ParticipantServiceCommitResponse{State: state, Reason: reason}, nil
}

// newRollbackResponse returns a service's answer to Rollback; an error if it gave none.
func newRollbackResponse(err error) (*assentv1.ParticipantServiceRollbackResponse, error) {
	state, reason, err := newState(assentv1.BranchState_BRANCH_STATE_ROLLED_BACK, err)
	if err != nil {
		return nil, err
	}
	return &assentv1.ParticipantServiceRollbackResponse{State: state, Reason: reason}, nil
}

// newState returns what an answer says of the branch. done is what no error means.
func newState(done assentv1.BranchState, err error) (state assentv1.BranchState, reason string, noAnswer error) {
	var heuristic *participant.HeuristicError
	switch {
	case err == nil:
		return done, "", nil
	case errors.As(err, &heuristic):
		for state, outcome := range stateOutcomes {
			if outcome == heuristic.Outcome {
				return state, reasonOf(err), nil
			}
		}
		// What can't be read is a hazard, as the coordinator takes it.
		return assentv1.BranchState_BRANCH_STATE_HEURISTIC_HAZARD, reasonOf(err), nil
	case errors.Is(err, participant.ErrUnknownBranch):
		return assentv1.BranchState_BRANCH_STATE_UNKNOWN, reasonOf(err), nil // R7: the coordinator reads it
	default:
		return 0, "", err
	}
}

// readCommitResponse returns what Commit returns for an answer.
func readCommitResponse(r *assentv1.ParticipantServiceCommitResponse) error {
	return readState(assentv1.BranchState_BRANCH_STATE_COMMITTED, r.GetState(), r.GetReason())
}

// readRollbackResponse returns what Rollback returns for an answer.
func readRollbackResponse(r *assentv1.ParticipantServiceRollbackResponse) error {
	return readState(assentv1.BranchState_BRANCH_STATE_ROLLED_BACK, r.GetState(), r.GetReason())
}

// readState reads what an answer says of the branch: nil if it is done. An answer that
// says nothing does not acknowledge (R6).
func readState(done, state assentv1.BranchState, reason string) error {
	outcome, ended := stateOutcomes[state]
	switch {
	case state == done:
		return nil
	case state == assentv1.BranchState_BRANCH_STATE_UNKNOWN:
		return told(participant.ErrUnknownBranch, reason)
	case ended && reason == "":
		return &participant.HeuristicError{Outcome: outcome}
	case ended:
		return &participant.HeuristicError{Outcome: outcome, Err: errors.New(clipped(reason))}
	default:
		return fmt.Errorf("the answer's state, %s, is none that is known", state)
	}
}

// newListPreparedResponse returns a service's answer to List.
func newListPreparedResponse(l participant.Listing) *assentv1.ListPreparedResponse {
	r := &assentv1.ListPreparedResponse{
		Branches: make([]*assentv1.BranchRef, 0, len(l.Prepared)), Highest: make([]string, 0, len(l.Highest)),
	}
	for _, b := range l.Prepared {
		r.Branches = append(r.Branches, newBranchName(b))
	}
	for _, id := range l.Highest {
		r.Highest = append(r.Highest, id.String())
	}
	return r
}

// readListPreparedResponse reads an answer to List. One branch that can't be read, or is
// of another domain, spoils it: what is left out of a list is taken for not prepared (R10).
func readListPreparedResponse(r *assentv1.ListPreparedResponse, domain string) (participant.Listing, error) {
	var l participant.Listing
	for _, ref := range r.GetBranches() {
		b, err := readBranchRef(ref)
		if err != nil {
			return participant.Listing{}, fmt.Errorf("a prepared branch of the answer: %w", err)
		}
		if b.Domain != domain {
			return participant.Listing{}, fmt.Errorf("the answer holds branch %s, which is not of domain %q: list that domain alone", b.XID(), domain)
		}
		l.Prepared = append(l.Prepared, b)
	}
	for _, text := range r.GetHighest() {
		id, err := participant.ParseTxID(text)
		if err != nil {
			return participant.Listing{}, fmt.Errorf("a highest id of the answer: %w", err)
		}
		l.Highest = append(l.Highest, id)
	}
	return l, nil
}

// newExplainResponse returns a service's answer to Explain.
func newExplainResponse(shown []participant.Explanation) *assentv1.ExplainResponse {
	r := &assentv1.ExplainResponse{Explanations: make([]*assentv1.Explanation, 0, len(shown))}
	for _, e := range shown {
		one := &assentv1.Explanation{Name: printable(e.Name), CommitStatement: printable(e.Commit), RollbackStatement: printable(e.Rollback)}
		if e.Branch.Domain != "" {
			one.Xid = string(e.Branch.XID())
		}
		r.Explanations = append(r.Explanations, one)
	}
	return r
}

// readExplainResponse reads an answer to Explain. It is for people, who see what they are
// shown: a name that is no XID is another application's.
func readExplainResponse(r *assentv1.ExplainResponse) []participant.Explanation {
	var shown []participant.Explanation
	for _, e := range r.GetExplanations() {
		one := participant.Explanation{Name: printable(e.GetName()), Commit: printable(e.GetCommitStatement()), Rollback: printable(e.GetRollbackStatement())}
		if b, err := participant.ParseXID(e.GetXid()); err == nil {
			one.Branch = b
		}
		shown = append(shown, one)
	}
	return shown
}

// newFailure returns what is sent in place of an answer.
func newFailure(err error) *assentv1.ParticipantFailure {
	return &assentv1.ParticipantFailure{
		Message: clipped(err.Error()), Misconfigured: errors.Is(err, participant.ErrConfig), StaleEpoch: errors.Is(err, participant.ErrStaleEpoch),
		Unsupported: errors.Is(err, errors.ErrUnsupported),
	}
}

// readFailure returns the error of a call that got no answer.
func readFailure(f *assentv1.ParticipantFailure) error {
	switch {
	case f.GetStaleEpoch():
		return told(participant.ErrStaleEpoch, f.GetMessage())
	case f.GetUnsupported():
		return told(errors.ErrUnsupported, f.GetMessage())
	case f.GetMisconfigured():
		return told(participant.ErrConfig, f.GetMessage())
	case f.GetMessage() == "":
		return errors.New("the service failed and did not say why")
	default:
		return errors.New(clipped(f.GetMessage()))
	}
}

// toldError is an error as the other side put it, and which one of the contract's it is.
type toldError struct {
	text string
	is   error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.is }

// told returns an error that Is is and has the text of the other side, if it gave one.
func told(is error, text string) error {
	if text == "" {
		return is
	}
	return &toldError{text: clipped(text), is: is}
}

// reasonOf returns the text of an error that may be nil.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return clipped(err.Error())
}

// clipped makes a text printable, and at most maxReason bytes long.
func clipped(text string) string {
	text = printable(text)
	if len(text) > maxReason {
		end := maxReason - len("…")
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end] + "…"
	}
	return text
}

// printable makes a text fit to be sent and to be shown: valid UTF-8 without control
// characters.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
