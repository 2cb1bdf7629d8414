package server

import (
	"context"
	"strconv"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant"
)

// watcher is a caller's place in the feed, and what of it he may see.
type watcher struct {
	*coordinator.Subscription
	s    *Server
	who  *Identity
	only participant.TxID // zero for all
	// owned remembers which transactions are a client's own: events of one come
	// several at a time.
	owned map[participant.TxID]bool
}

// maxOwned bounds watcher.owned (R12).
const maxOwned = 4096

// watch returns a place after an event, "" for what happens from now on.
func (s *Server) watch(ctx context.Context, transactionID, after string) (*watcher, *failure) {
	w := &watcher{s: s, who: caller(ctx)}
	if s.config.Feed == nil {
		return nil, &failure{code: connect.CodeUnimplemented, message: "this server does not tell of events"}
	}
	if transactionID != "" {
		id, f := s.mine(ctx, transactionID)
		if f != nil {
			return nil, f
		}
		w.only = id
	}
	var number uint64
	if after != "" {
		var err error
		if number, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, invalid("after: %q is not the id of an event", after)
		}
	}
	var err error
	if w.Subscription, err = s.config.Feed.Subscribe(number); err != nil {
		return nil, failed("", err)
	}
	return w, nil
}

// mine returns the id of a transaction that the caller may see.
func (s *Server) mine(ctx context.Context, text string) (participant.TxID, *failure) {
	id, f := transactionID(text)
	if f == nil {
		_, f = s.info(ctx, id)
	}
	return id, f
}

// next returns the next event that the caller may see, and waits for it.
func (w *watcher) next(ctx context.Context) (*assentv1.Event, error) {
	for {
		e, err := w.Next(ctx)
		if err != nil {
			return nil, err
		}
		if w.wants(ctx, &e) {
			return w.event(&e), nil
		}
	}
}

func (w *watcher) wants(ctx context.Context, e *coordinator.Event) bool {
	switch {
	case e.Kind == coordinator.EventGap:
		return true
	case !w.only.IsZero():
		return e.Tx == w.only && (e.Kind != coordinator.EventOrphan || w.who.Role > RoleClient)
	case w.who.Role > RoleClient:
		return true
	default:
		return e.Kind != coordinator.EventOrphan && e.Kind != coordinator.EventSafeMode && w.owns(ctx, e.Tx)
	}
}

func (w *watcher) owns(ctx context.Context, id participant.TxID) bool {
	owned, known := w.owned[id]
	if known {
		return owned
	}
	info, err := w.s.dtm.Get(ctx, id)
	owned = err == nil && info.Owner == w.who.Name
	if w.owned == nil || len(w.owned) >= maxOwned {
		w.owned = make(map[participant.TxID]bool)
	}
	w.owned[id] = owned
	return owned
}

// event returns what the caller may see of an event. What calls returned is for those
// who may look at everybody's, but a refusal is for the client it is about.
func (w *watcher) event(e *coordinator.Event) *assentv1.Event {
	out := &assentv1.Event{
		Id: strconv.FormatUint(e.Number, 10), Kind: eventKind(e.Kind), At: timestamppb.New(e.At), Branch: uint32(e.Branch), Participant: e.Participant,
		Vote: vote(e.Vote), Decision: decision(e.Decision), Outcome: outcome(e.Outcome), Cause: cause(e.Cause), Attempt: uint32(e.Attempt),
	}
	if !e.Tx.IsZero() {
		out.TransactionId = e.Tx.String()
	}
	if e.Took > 0 {
		out.Took = durationpb.New(e.Took.Round(time.Microsecond))
	}
	if w.who.Role > RoleClient || e.Vote == participant.VoteRefused {
		out.Error = e.Text
	}
	return out
}

func eventKind(k coordinator.EventKind) assentv1.EventKind {
	switch k {
	case coordinator.EventBegun:
		return assentv1.EventKind_EVENT_KIND_BEGUN
	case coordinator.EventEnlisted:
		return assentv1.EventKind_EVENT_KIND_ENLISTED
	case coordinator.EventVoted:
		return assentv1.EventKind_EVENT_KIND_VOTED
	case coordinator.EventDecided:
		return assentv1.EventKind_EVENT_KIND_DECIDED
	case coordinator.EventTold:
		return assentv1.EventKind_EVENT_KIND_TOLD
	case coordinator.EventFinished:
		return assentv1.EventKind_EVENT_KIND_FINISHED
	case coordinator.EventOrphan:
		return assentv1.EventKind_EVENT_KIND_ORPHAN
	case coordinator.EventSafeMode:
		return assentv1.EventKind_EVENT_KIND_SAFE_MODE
	case coordinator.EventGap:
		return assentv1.EventKind_EVENT_KIND_GAP
	default:
		return assentv1.EventKind_EVENT_KIND_UNSPECIFIED
	}
}

// Watch sends events until the caller, or the server, ends.
func (t transactions) Watch(ctx context.Context, r *assentv1.WatchRequest, stream assentv1connect.TransactionServiceWatchServerStream) error {
	w, f := t.s.watch(ctx, r.GetTransactionId(), r.GetAfter())
	if f != nil {
		return f.status()
	}
	defer w.Close()
	defer context.AfterFunc(t.s.life, w.Close)() //nolint:contextcheck // streams end with the server
	if err := stream.SendHeaders(); err != nil { // who waits for them knows that nothing is missed from here on
		return err
	}
	for {
		e, err := w.next(ctx)
		if err != nil {
			return err
		}
		if err := stream.Send(&assentv1.WatchResponse{Event: e}); err != nil {
			return err
		}
	}
}
