package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/timestamppb"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// protocolVersion is that of the HTTP contract.
const protocolVersion = 1

// The phases: what is called, and the end of the path it is called at.
const (
	phasePrepare  = "prepare"
	phaseCommit   = "commit"
	phaseRollback = "rollback"
	phasePrepared = "prepared"
	phaseForget   = "forget"
	phaseExplain  = "explain"
)

// branchBody is the body of prepare, commit and rollback.
type branchBody struct {
	Protocol      int     `json:"protocol"`
	Phase         string  `json:"phase"`
	Domain        string  `json:"domain"`
	TransactionID string  `json:"transaction_id"`
	Branch        uint32  `json:"branch"`
	XID           string  `json:"xid"`
	Epoch         uint64  `json:"epoch"`
	Participant   string  `json:"participant"`
	Deadline      string  `json:"deadline,omitempty"`
	Payload       *string `json:"payload,omitempty"`
	PayloadBase64 []byte  `json:"payload_base64,omitempty"`
}

// domainBody is the body of prepared.
type domainBody struct {
	Protocol    int    `json:"protocol"`
	Phase       string `json:"phase"`
	Domain      string `json:"domain"`
	Participant string `json:"participant"`
}

// forgetBody is the body of forget.
type forgetBody struct {
	Protocol    int      `json:"protocol"`
	Phase       string   `json:"phase"`
	Participant string   `json:"participant"`
	Branches    []string `json:"branches"`
}

// explainCallBody is the body of explain.
type explainCallBody struct {
	Protocol    int    `json:"protocol"`
	Phase       string `json:"phase"`
	Participant string `json:"participant"`
}

// xidOf returns the XID of the branch that ref is of.
func xidOf(ref *assentv1.BranchRef) string {
	return ref.GetDomain() + ":" + strings.Replace(ref.GetTransactionId(), "-", ":", 1) + ":" + strconv.FormatUint(uint64(ref.GetNumber()), 10)
}

// newBranchBody returns what a service is told of a branch over HTTP. Data that is text
// is sent as text, so that services need not decode it.
func newBranchBody(phase string, ref *assentv1.BranchRef) *branchBody {
	body := &branchBody{
		Protocol: protocolVersion, Phase: phase, Domain: ref.GetDomain(), TransactionID: ref.GetTransactionId(), Branch: ref.GetNumber(),
		XID: xidOf(ref), Epoch: ref.GetEpoch(), Participant: ref.GetParticipant(),
	}
	if ref.GetDeadline() != nil {
		body.Deadline = ref.GetDeadline().AsTime().Format(time.RFC3339Nano)
	}
	switch data := ref.GetData(); {
	case len(data) == 0:
	case utf8.Valid(data):
		text := string(data)
		body.Payload = &text
	default:
		body.PayloadBase64 = data
	}
	return body
}

// encode returns a body's JSON.
func encode(body any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, fmt.Errorf("encode the body: %w", err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}

// readCall reads what all bodies begin with.
func readCall(body []byte, phase string) (object, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, err
	}
	var version int
	var said string
	if err := errors.Join(o.need("protocol", &version), o.need("phase", &said)); err != nil {
		return nil, err
	}
	if version != protocolVersion {
		return nil, fmt.Errorf("protocol %d is not %d", version, protocolVersion)
	}
	if said != phase {
		return nil, fmt.Errorf("phase %q is not that of the path, %q", clipped(said), phase)
	}
	return o, nil
}

// readBranchBody reads what newBranchBody makes.
func readBranchBody(body []byte, phase string) (*assentv1.BranchRef, error) {
	o, err := readCall(body, phase)
	if err != nil {
		return nil, err
	}
	var b branchBody
	_, deadlineErr := o.get("deadline", &b.Deadline)
	_, payloadErr := o.get("payload", &b.Payload)
	_, base64Err := o.get("payload_base64", &b.PayloadBase64)
	if err := errors.Join(
		o.need("domain", &b.Domain), o.need("transaction_id", &b.TransactionID), o.need("branch", &b.Branch), o.need("xid", &b.XID),
		o.need("epoch", &b.Epoch), o.need("participant", &b.Participant), deadlineErr, payloadErr, base64Err,
	); err != nil {
		return nil, err
	}
	ref := &assentv1.BranchRef{
		Domain: b.Domain, TransactionId: b.TransactionID, Number: b.Branch, Epoch: b.Epoch, Participant: b.Participant, Data: b.PayloadBase64,
	}
	if b.Payload != nil {
		if len(b.PayloadBase64) > 0 {
			return nil, errors.New("the body has a payload and a payload_base64")
		}
		ref.Data = []byte(*b.Payload)
	}
	if b.Deadline != "" {
		at, err := time.Parse(time.RFC3339Nano, b.Deadline)
		if err != nil {
			return nil, fmt.Errorf("deadline %q is not a time of RFC 3339", clipped(b.Deadline))
		}
		ref.Deadline = timestamppb.New(at)
	}
	if b.XID != xidOf(ref) {
		return nil, fmt.Errorf("xid %q is not that of the transaction and branch", clipped(b.XID))
	}
	return ref, nil
}

// readDomainBody reads the body of prepared.
func readDomainBody(body []byte) (*assentv1.ListPreparedRequest, error) {
	o, err := readCall(body, phasePrepared)
	if err != nil {
		return nil, err
	}
	r := &assentv1.ListPreparedRequest{}
	return r, o.need("domain", &r.Domain)
}

// readForgetBody reads the body of forget.
func readForgetBody(body []byte) (*assentv1.ForgetRequest, error) {
	o, err := readCall(body, phaseForget)
	if err != nil {
		return nil, err
	}
	var xids []string
	if err := o.need("branches", &xids); err != nil {
		return nil, err
	}
	r := &assentv1.ForgetRequest{}
	r.Branches, err = readXIDs(xids)
	return r, err
}

// readXIDs returns the branches that are named.
func readXIDs(xids []string) ([]*assentv1.BranchRef, error) {
	refs := make([]*assentv1.BranchRef, 0, len(xids))
	for _, xid := range xids {
		b, err := participant.ParseXID(xid)
		if err != nil {
			return nil, errors.New(clipped(err.Error()))
		}
		refs = append(refs, newBranchName(b))
	}
	return refs, nil
}

// Votes and states in JSON are their names in assent.v1 without the name of the enum.
const (
	votePrefix  = "VOTE_"
	statePrefix = "BRANCH_STATE_"
)

// voteBody answers prepare.
type voteBody struct {
	Vote   string `json:"vote"`
	Reason string `json:"reason,omitempty"`
}

// stateBody answers commit and rollback.
type stateBody struct {
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// listBody answers prepared.
type listBody struct {
	Branches []string `json:"branches"`
	Highest  []string `json:"highest"`
}

// explainBody answers explain.
type explainBody struct {
	Prepared []explanationBody `json:"prepared"`
}

type explanationBody struct {
	Name     string `json:"name"`
	XID      string `json:"xid,omitempty"`
	Commit   string `json:"commit"`
	Rollback string `json:"rollback"`
}

// errorBody is sent in place of an answer.
type errorBody struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

func newVoteBody(r *assentv1.PrepareResponse) voteBody {
	return voteBody{strings.TrimPrefix(r.GetVote().String(), votePrefix), r.GetReason()}
}

func newStateBody(state assentv1.BranchState, reason string) stateBody {
	return stateBody{strings.TrimPrefix(state.String(), statePrefix), reason}
}

func newListBody(r *assentv1.ListPreparedResponse) listBody {
	body := listBody{Branches: make([]string, 0, len(r.GetBranches())), Highest: r.GetHighest()}
	for _, ref := range r.GetBranches() {
		body.Branches = append(body.Branches, xidOf(ref))
	}
	return body
}

func newExplainBody(r *assentv1.ExplainResponse) explainBody {
	body := explainBody{Prepared: make([]explanationBody, 0, len(r.GetExplanations()))}
	for _, e := range r.GetExplanations() {
		body.Prepared = append(body.Prepared, explanationBody{e.GetName(), e.GetXid(), e.GetCommitStatement(), e.GetRollbackStatement()})
	}
	return body
}

// readExplainBody reads an answer to explain.
func readExplainBody(body []byte) (*assentv1.ExplainResponse, error) {
	o, err := readObject(body)
	var prepared []explanationBody
	if err == nil {
		err = o.need("prepared", &prepared)
	}
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	r := &assentv1.ExplainResponse{}
	for _, e := range prepared {
		r.Explanations = append(r.Explanations, &assentv1.Explanation{Name: e.Name, Xid: e.XID, CommitStatement: e.Commit, RollbackStatement: e.Rollback})
	}
	return r, nil
}

// readVoteBody reads an answer to prepare.
func readVoteBody(body []byte) (*assentv1.PrepareResponse, error) {
	value, reason, err := readAnswer(body, "vote", votePrefix, assentv1.Vote_value)
	return &assentv1.PrepareResponse{Vote: assentv1.Vote(value), Reason: reason}, err
}

// readStateBody reads an answer to commit or rollback.
func readStateBody(body []byte) (state assentv1.BranchState, reason string, err error) {
	value, reason, err := readAnswer(body, "state", statePrefix, assentv1.BranchState_value)
	return assentv1.BranchState(value), reason, err
}

func readAnswer(body []byte, field, prefix string, values map[string]int32) (value int32, reason string, err error) {
	o, err := readObject(body)
	if err != nil {
		return 0, "", fmt.Errorf("the answer: %w", err)
	}
	var name string
	_, err = o.get("reason", &reason)
	if err = errors.Join(o.need(field, &name), err); err != nil {
		return 0, "", fmt.Errorf("the answer: %w", err)
	}
	if value = values[prefix+name]; value == 0 {
		return 0, "", fmt.Errorf("the answer's %s, %q, is none of the contract's", field, clipped(name))
	}
	return value, reason, nil
}

// readListBody reads an answer to prepared. The branches have to be there, even if there
// are none: what is not listed is taken for not prepared (R10).
func readListBody(body []byte) (*assentv1.ListPreparedResponse, error) {
	o, err := readObject(body)
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	var list listBody
	_, err = o.get("highest", &list.Highest)
	if err = errors.Join(o.need("branches", &list.Branches), err); err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	refs, err := readXIDs(list.Branches)
	if err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	return &assentv1.ListPreparedResponse{Branches: refs, Highest: list.Highest}, nil
}
