package server

import (
	"context"
	"errors"
	"strconv"

	"go.uber.org/zap"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// transactions is the TransactionService: each method reads a request, calls the
// coordinator's method of the same name, and says what came of it. Those in lower case
// serve a Session, too.
type transactions struct {
	assentv1connect.UnimplementedTransactionServiceHandler
	s *Server
}

var _ assentv1connect.TransactionServiceHandler = transactions{}

func (t transactions) Begin(ctx context.Context, r *assentv1.BeginRequest) (*assentv1.BeginResponse, error) {
	return answered(t.begin(ctx, r))
}

func (t transactions) Enlist(ctx context.Context, r *assentv1.EnlistRequest) (*assentv1.EnlistResponse, error) {
	return answered(t.enlist(ctx, r))
}

func (t transactions) Commit(ctx context.Context, r *assentv1.CommitRequest) (*assentv1.CommitResponse, error) {
	return answered(t.commit(ctx, r))
}

func (t transactions) Rollback(ctx context.Context, r *assentv1.RollbackRequest) (*assentv1.RollbackResponse, error) {
	return answered(t.rollback(ctx, r))
}

func (t transactions) Submit(ctx context.Context, r *assentv1.SubmitRequest) (*assentv1.SubmitResponse, error) {
	return answered(t.submit(ctx, r))
}

// answered turns a failure into the status of an RPC.
func answered[M any](answer M, f *failure) (M, error) {
	if f != nil {
		var none M
		return none, f.status()
	}
	return answer, nil
}

func (t transactions) begin(ctx context.Context, r *assentv1.BeginRequest) (*assentv1.BeginResponse, *failure) {
	options, f := t.s.beginOptions(ctx, r.GetName(), r.GetRequestId(), r.GetTimeout())
	if f != nil {
		return nil, f
	}
	if t.s.draining.Load() {
		return nil, failed("", coordinator.ErrClosed)
	}
	id, err := t.s.dtm.Begin(ctx, options)
	if err != nil {
		return nil, failed("", err)
	}
	return &assentv1.BeginResponse{TransactionId: id.String()}, nil
}

// maxText bounds the name and the request id that a caller gives, so that there is
// room for both in the log, beside its own name.
const maxText = 256

func (s *Server) beginOptions(ctx context.Context, name, requestID string, timeout *durationpb.Duration) (coordinator.BeginOption, *failure) {
	o := coordinator.BeginOptions{Name: name, Owner: caller(ctx).Name, RequestID: requestID}
	switch {
	case len(name) > maxText:
		return nil, invalid("name: %d bytes are more than %d", len(name), maxText)
	case len(requestID) > maxText:
		return nil, invalid("request_id: %d bytes are more than %d", len(requestID), maxText)
	case timeout == nil:
	case timeout.CheckValid() != nil || timeout.AsDuration() <= 0 || timeout.AsDuration() > s.config.MaxTimeout:
		return nil, invalid("timeout: want more than 0s and at most %s", s.config.MaxTimeout)
	default:
		o.Timeout = timeout.AsDuration()
	}
	return func(to *coordinator.BeginOptions) { *to = o }, nil
}

func (t transactions) enlist(ctx context.Context, r *assentv1.EnlistRequest) (*assentv1.EnlistResponse, *failure) {
	id, f := t.s.own(ctx, r.GetTransactionId())
	if f != nil {
		return nil, f
	}
	e, f := t.s.enlistment(r.GetEnlistment())
	if f != nil {
		return nil, f
	}
	b, err := t.s.dtm.Tx(id).Enlist(ctx, e.Participant, e.Data)
	if err != nil {
		return nil, failed(id.String(), err)
	}
	return &assentv1.EnlistResponse{
		Number: uint32(b.Number), Xid: string(b.XID()), Domain: b.Domain,
		Epoch: strconv.FormatUint(b.Epoch, 10), Deadline: timestamp(b.Deadline),
	}, nil
}

func (s *Server) enlistment(e *assentv1.Enlistment) (coordinator.Enlistment, *failure) {
	var out coordinator.Enlistment
	data := e.GetData()
	if e.GetText() != "" {
		if len(data) > 0 {
			return out, invalid("enlistment of %q: data and text are both set: want one of them", e.GetParticipant())
		}
		data = []byte(e.GetText())
	}
	if e.GetParticipant() == "" {
		return out, invalid("enlistment: participant is missing")
	}
	p, ok := s.dtm.Participant(e.GetParticipant())
	if !ok {
		return out, noParticipant(e.GetParticipant())
	}
	data, err := remote.WithInstance(p, e.GetInstance(), data)
	if err != nil {
		return out, invalid("enlistment of %q: %s", e.GetParticipant(), err)
	}
	if len(data) > participant.MaxData {
		return out, invalid("enlistment of %q: %d bytes of data, the instance's name included, are more than %d", e.GetParticipant(), len(data), participant.MaxData)
	}
	out.Participant, out.Data = p, data
	return out, nil
}

func (t transactions) commit(ctx context.Context, r *assentv1.CommitRequest) (*assentv1.CommitResponse, *failure) {
	id, f := t.s.own(ctx, r.GetTransactionId())
	if f != nil {
		return nil, f
	}
	_, err := t.s.undisturbed(ctx, func(ctx context.Context) (participant.TxID, error) { return id, t.s.dtm.Commit(ctx, id) })
	state, f := committed(id, err)
	if f != nil {
		return nil, f
	}
	return &assentv1.CommitResponse{State: state}, nil
}

func committed(id participant.TxID, err error) (assentv1.State, *failure) {
	switch {
	case err == nil:
		return assentv1.State_STATE_COMMITTED, nil
	case errors.Is(err, coordinator.ErrCommitPending):
		return assentv1.State_STATE_COMMITTING, nil
	case id.IsZero():
		return 0, failed("", err)
	default:
		return 0, failed(id.String(), err)
	}
}

func (t transactions) rollback(ctx context.Context, r *assentv1.RollbackRequest) (*assentv1.RollbackResponse, *failure) {
	id, f := t.s.own(ctx, r.GetTransactionId())
	if f != nil {
		return nil, f
	}
	_, err := t.s.undisturbed(ctx, func(ctx context.Context) (participant.TxID, error) { return id, t.s.dtm.Rollback(ctx, id) })
	if err != nil {
		return nil, failed(id.String(), err)
	}
	return &assentv1.RollbackResponse{}, nil
}

func (t transactions) submit(ctx context.Context, r *assentv1.SubmitRequest) (*assentv1.SubmitResponse, *failure) {
	options, f := t.s.beginOptions(ctx, r.GetName(), r.GetRequestId(), r.GetTimeout())
	if f != nil {
		return nil, f
	}
	if n := len(r.GetEnlistments()); n > participant.MaxBranches {
		return nil, invalid("enlistments: %d are more than %d", n, participant.MaxBranches)
	}
	if t.s.draining.Load() {
		return nil, failed("", coordinator.ErrClosed)
	}
	enlistments := make([]coordinator.Enlistment, len(r.GetEnlistments()))
	for i, e := range r.GetEnlistments() {
		if enlistments[i], f = t.s.enlistment(e); f != nil {
			return nil, f
		}
	}
	id, err := t.s.undisturbed(ctx, func(ctx context.Context) (participant.TxID, error) {
		return t.s.dtm.Submit(ctx, enlistments, options)
	})
	state, f := committed(id, err)
	if f != nil {
		return nil, f
	}
	return &assentv1.SubmitResponse{TransactionId: id.String(), State: state}, nil
}

func (t transactions) Get(ctx context.Context, r *assentv1.GetRequest) (*assentv1.GetResponse, error) {
	id, f := transactionID(r.GetTransactionId())
	if f != nil {
		return nil, f.status()
	}
	info, f := t.s.info(ctx, id)
	if f != nil {
		return nil, f.status()
	}
	answer := transaction(t.s.dtm.Domain(), &info, caller(ctx).Role > RoleClient)
	if caller(ctx).Role > RoleClient {
		said, err := t.s.dtm.Words(ctx, id)
		if err != nil {
			return nil, failed(id.String(), err).status()
		}
		answer.Words = words(&info, said)
	}
	if r.GetStatements() {
		if caller(ctx).Role < RoleViewer {
			return nil, forbidden("statements: they are for operators").status()
		}
		// Of participants that can't be asked there are none.
		shown, err := t.s.dtm.Explain(ctx, id)
		if err != nil {
			t.s.logger.Warn("participants could not be asked what finishes a transaction by hand", zap.Stringer("tx", id), zap.Error(err))
		}
		for _, b := range answer.GetBranches() {
			e := shown[int(b.GetNumber())]
			b.CommitStatement, b.RollbackStatement = e.Commit, e.Rollback
		}
	}
	return &assentv1.GetResponse{Transaction: answer}, nil
}

// maxList bounds the transactions of one answer (R12).
const maxList = 10_000

func (t transactions) List(ctx context.Context, r *assentv1.ListRequest) (*assentv1.ListResponse, error) {
	if r.GetLimit() > maxList {
		return nil, invalid("limit: %d is more than %d", r.GetLimit(), maxList).status()
	}
	filter := coordinator.Filter{
		Done: r.GetDone(), InDoubt: r.GetInDoubt(), Participant: r.GetParticipant(), Owner: r.GetOwner(), Limit: int(r.GetLimit()),
	}
	who := caller(ctx)
	if who.Role == RoleClient {
		if filter.Owner != "" && filter.Owner != who.Name {
			return &assentv1.ListResponse{}, nil
		}
		filter.Owner = who.Name
	}
	infos, err := t.s.dtm.List(ctx, filter)
	if err != nil {
		return nil, failed("", err).status()
	}
	response := &assentv1.ListResponse{Transactions: make([]*assentv1.Transaction, 0, len(infos))}
	for i := range infos {
		response.Transactions = append(response.Transactions, transaction(t.s.dtm.Domain(), &infos[i], who.Role > RoleClient))
	}
	return response, nil
}

// Outcome answers whoever has an identity, not the owner alone: a participant in doubt
// holds locks until it is told, and is another's than the one who began the
// transaction. Who was not given the id can't guess it, and learns one word by it.
func (t transactions) Outcome(ctx context.Context, r *assentv1.OutcomeRequest) (*assentv1.OutcomeResponse, error) {
	id, f := transactionID(r.GetTransactionId())
	if f != nil {
		return nil, f.status()
	}
	answer, err := t.s.dtm.Outcome(ctx, id)
	if err != nil {
		return nil, failed(id.String(), err).status()
	}
	return &assentv1.OutcomeResponse{Inquiry: inquiry(answer)}, nil
}

// own returns the id of a transaction that the caller may change.
func (s *Server) own(ctx context.Context, text string) (participant.TxID, *failure) {
	id, f := transactionID(text)
	if f != nil || caller(ctx).Role >= RoleOperator {
		return id, f
	}
	info, err := s.dtm.Get(ctx, id)
	if err != nil {
		return id, failed(text, err)
	}
	if !caller(ctx).owns(&info) {
		return id, notFound(id)
	}
	return id, nil
}

// info returns what the caller may know of a transaction.
func (s *Server) info(ctx context.Context, id participant.TxID) (coordinator.Info, *failure) {
	info, err := s.dtm.Get(ctx, id)
	if err != nil {
		return info, failed(id.String(), err)
	}
	if !caller(ctx).sees(&info) {
		return coordinator.Info{}, notFound(id)
	}
	return info, nil
}

func transactionID(text string) (participant.TxID, *failure) {
	if text == "" {
		return participant.TxID{}, invalid("transaction_id: it is missing")
	}
	id, err := participant.ParseTxID(text)
	if err != nil {
		return id, invalid("transaction_id: %s", err)
	}
	return id, nil
}

// undisturbed calls fn with a context that neither the caller's deadline nor his
// hanging up ends: they bound the wait, not the transaction. The caller's goroutine
// stays with fn if nobody else is waiting for it.
//
//nolint:contextcheck // what the caller's context holds must not live as long as the transaction
func (s *Server) undisturbed(ctx context.Context, fn func(context.Context) (participant.TxID, error)) (participant.TxID, error) {
	lasting := remote.WithTraceparent(context.Background(), remote.Traceparent(ctx))
	if _, bounded := ctx.Deadline(); !bounded {
		return fn(lasting)
	}
	type answer struct {
		id  participant.TxID
		err error
	}
	answers := make(chan answer, 1)
	if !s.calls.enter() { // it may outlast the call that it is for
		return participant.TxID{}, s.calls.full()
	}
	go func() {
		defer s.calls.leave()
		id, err := fn(lasting)
		answers <- answer{id, err}
	}()
	select {
	case a := <-answers:
		return a.id, a.err
	case <-ctx.Done():
		return participant.TxID{}, context.Cause(ctx)
	}
}
