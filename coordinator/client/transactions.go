package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// Begin begins a transaction and returns its id; see coordinator.DTM.Begin. Without
// WithRequestID it gets a request id of its own.
//
// Errors are those of DTM, and ErrInvalid, ErrUnauthenticated, ErrForbidden, and
// ErrUnreachable once Config.Patience is over: then a transaction may have begun that
// nobody knows of, and is rolled back when it times out. WithOwner is an error: the
// server knows who calls.
func (c *Client) Begin(ctx context.Context, options ...coordinator.BeginOption) (participant.TxID, error) {
	o, err := c.beginOptions(options)
	if err != nil {
		return participant.TxID{}, fmt.Errorf("begin transaction: %w", err)
	}
	return c.begin(ctx, o)
}

func (c *Client) begin(ctx context.Context, o coordinator.BeginOptions) (participant.TxID, error) {
	answer, end := ask(ctx, c, c.config.Patience, &assentv1.BeginRequest{
		Name: o.Name, Timeout: durationpb.New(o.Timeout), RequestId: o.RequestID,
	}, c.calls.Begin)
	if end != nil {
		return participant.TxID{}, fmt.Errorf("begin transaction: %w", end.error(participant.TxID{}))
	}
	id, err := participant.ParseTxID(answer.GetTransactionId())
	if err != nil {
		return participant.TxID{}, fmt.Errorf("begin transaction: the server's answer: %w", err)
	}
	return id, nil
}

func (c *Client) beginOptions(options []coordinator.BeginOption) (coordinator.BeginOptions, error) {
	var o coordinator.BeginOptions
	for _, option := range options {
		option(&o)
	}
	if o.Owner != "" {
		return o, fmt.Errorf("%w: owner %q: a transaction's owner is whom the server knows the client as", ErrInvalid, o.Owner)
	}
	if o.Timeout < 0 {
		return o, fmt.Errorf("%w: timeout %s is negative", ErrInvalid, o.Timeout)
	}
	if o.Timeout == 0 {
		o.Timeout = c.config.Timeout
	}
	if o.RequestID == "" {
		o.RequestID = rand.Text() // lets the request be repeated
	}
	return o, nil
}

// Enlist adds a branch for p; see coordinator.DTM.Enlist. The server knows the
// participant by p's name. If this client serves it, the branch's calls come to this
// process as long as it is attached.
//
// Errors are those of DTM, ErrUnknownParticipant, and those of Begin.
func (c *Client) Enlist(ctx context.Context, id participant.TxID, p participant.Participant, options ...coordinator.EnlistOption) error {
	var o coordinator.EnlistOptions
	for _, option := range options {
		option(&o)
	}
	_, err := c.enlist(ctx, id, p, o.Data)
	return err
}

// Tx returns the handle of a transaction that Begin began, for adapters.
func (c *Client) Tx(id participant.TxID) *coordinator.Tx {
	return coordinator.NewTx(id, func(ctx context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
		return c.enlist(ctx, id, p, data)
	})
}

func (c *Client) enlist(ctx context.Context, id participant.TxID, p participant.Participant, data []byte) (participant.Branch, error) {
	name, err := nameOf(p)
	if err != nil {
		return participant.Branch{}, fmt.Errorf("enlist in transaction %s: %w", id, err)
	}
	answer, end := ask(ctx, c, c.config.Patience, &assentv1.EnlistRequest{
		TransactionId: id.String(), Enlistment: &assentv1.Enlistment{Participant: name, Data: data, Instance: c.instanceFor(name)},
	}, c.calls.Enlist)
	if end != nil {
		return participant.Branch{}, fmt.Errorf("enlist participant %q in transaction %s: %w", name, id, end.error(id))
	}
	b := participant.Branch{Domain: answer.GetDomain(), Tx: id, Number: int(answer.GetNumber()), Participant: name, Data: data}
	if b.Epoch, err = strconv.ParseUint(answer.GetEpoch(), 10, 64); err != nil || string(b.XID()) != answer.GetXid() {
		return participant.Branch{}, fmt.Errorf("enlist participant %q in transaction %s: the server's answer makes no branch: %s", name, id, answer)
	}
	if answer.GetDeadline() != nil {
		b.Deadline = answer.GetDeadline().AsTime()
	}
	return b, nil
}

// Commit asks for the transaction to be committed and waits for the answer; see
// coordinator.DTM.Commit, which says what it returns. It may be called again, and asks
// again by itself when the connection is lost.
//
// Other than that of an embedded coordinator, the end of ctx does not ask for a
// rollback: Commit returns coordinator.ErrOutcomeUnknown, and what becomes of the
// transaction is decided without the caller.
func (c *Client) Commit(ctx context.Context, id participant.TxID) error {
	if ctx.Err() != nil {
		return fmt.Errorf("commit transaction %s: nothing was asked: %w", id, context.Cause(ctx))
	}
	answer, end := ask(ctx, c, forever, &assentv1.CommitRequest{TransactionId: id.String()}, c.calls.Commit)
	if err := committed(id, answer.GetState(), end); err != nil {
		return fmt.Errorf("commit transaction %s: %w", id, err)
	}
	return nil
}

// committed reads what came of a request to commit.
func committed(id participant.TxID, state assentv1.State, end *ended) error {
	switch {
	case end == nil && state == assentv1.State_STATE_COMMITTED:
		return nil
	case end == nil && state == assentv1.State_STATE_COMMITTING:
		return coordinator.ErrCommitPending
	case end == nil:
		return fmt.Errorf("%w: the server's answer is %s", coordinator.ErrOutcomeUnknown, state)
	case end.refusal != nil && end.refusal.tellsOutcome():
		return end.refusal.error(id)
	case end.ctx != nil && end.refusal != nil:
		return fmt.Errorf("%w: %w: %w", coordinator.ErrOutcomeUnknown, end.ctx, end.refusal.error(id))
	case end.ctx != nil:
		return fmt.Errorf("%w: %w", coordinator.ErrOutcomeUnknown, end.ctx)
	case end.lost:
		return fmt.Errorf("%w: a connection was lost before: %w", coordinator.ErrOutcomeUnknown, end.refusal.error(id))
	default:
		return end.refusal.error(id)
	}
}

// Rollback asks for the transaction to be rolled back; see coordinator.DTM.Rollback.
// Errors are those of DTM, and those of Begin.
func (c *Client) Rollback(ctx context.Context, id participant.TxID) error {
	_, end := ask(ctx, c, c.config.Patience, &assentv1.RollbackRequest{TransactionId: id.String()}, c.calls.Rollback)
	if end != nil {
		return fmt.Errorf("roll back transaction %s: %w", id, end.error(id))
	}
	return nil
}

// Submit begins a transaction, enlists all that are named, and commits it, in one
// request; see coordinator.DTM.Submit. Without WithRequestID it gets a request id of its
// own. The server knows participants by their names; see Participant.
//
// When ctx ends it is as for Commit: coordinator.ErrOutcomeUnknown, with the request
// id, by which the same Submit asks again: as long as the server keeps the outcome, which
// counts while it is down. Afterwards the same Submit would do the work a second time;
// hence it is repeated for no more than a minute once the server can't be reached.
func (c *Client) Submit(ctx context.Context, enlistments []coordinator.Enlistment, options ...coordinator.BeginOption) (participant.TxID, error) {
	o, err := c.beginOptions(options)
	if err != nil {
		return participant.TxID{}, fmt.Errorf("submit transaction: %w", err)
	}
	if ctx.Err() != nil {
		return participant.TxID{}, fmt.Errorf("submit transaction: nothing was asked: %w", context.Cause(ctx))
	}
	request := &assentv1.SubmitRequest{
		Name: o.Name, Timeout: durationpb.New(o.Timeout), RequestId: o.RequestID, Enlistments: make([]*assentv1.Enlistment, len(enlistments)),
	}
	for i, e := range enlistments {
		name, err := nameOf(e.Participant)
		if err != nil {
			return participant.TxID{}, fmt.Errorf("submit transaction: enlistment %d: %w", i, err)
		}
		request.Enlistments[i] = &assentv1.Enlistment{Participant: name, Data: e.Data}
	}
	answer, end := ask(ctx, c, submitPatience, request, c.calls.Submit)
	return submitted(answer, end, o.RequestID)
}

func submitted(answer *assentv1.SubmitResponse, end *ended, requestID string) (participant.TxID, error) {
	text := answer.GetTransactionId()
	if end != nil && end.refusal != nil {
		text = end.refusal.info.GetTransactionId()
	}
	id, parseErr := participant.ParseTxID(text)
	err := committed(id, answer.GetState(), end)
	switch {
	case err == nil && parseErr != nil:
		return id, fmt.Errorf("submit transaction: the server's answer: %w", parseErr)
	case err == nil:
		return id, nil
	case parseErr == nil:
		return id, fmt.Errorf("submit transaction %s: %w", id, err)
	default:
		return id, fmt.Errorf("submit transaction with request id %q: %w", requestID, err)
	}
}

// Run begins a transaction, calls fn with it, and commits; see coordinator.DTM.Run. fn's
// context ends when the transaction times out.
func (c *Client) Run(ctx context.Context, fn func(ctx context.Context, tx *coordinator.Tx) error, options ...coordinator.BeginOption) error {
	o, err := c.beginOptions(options)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	begun := time.Now() // or later
	id, err := c.begin(ctx, o)
	if err != nil {
		return err
	}
	return c.run(ctx, id, begun.Add(o.Timeout), fn)
}
