package remote

import (
	"context"
	"fmt"
	"sync"
	"time"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// answerer makes the calls that come by an instance's streams, and keeps their answers
// until the server is known to have them: a call that is sent again because its answer
// was lost with a stream gets the same answer. What was read-only, say, can't be
// prepared again.
type answerer struct {
	participant *participant.Registered
	maxCalls    int
	ctx         context.Context // of all calls
	all         sync.WaitGroup
	epochs      epochs

	mu       sync.Mutex
	server   string                // whose ids these are
	running  map[uint64]*running   // whose answers are waited for
	branches map[branchID]*running // the last call about each
	active   int                   // calls, also those whose answers nobody waits for
	outgoing []*assentv1.ParticipantAnswer
	sent     []*assentv1.ParticipantAnswer          // on the stream, and not known to have come
	received uint64                                 // answers of the stream that came
	kept     map[uint64]*assentv1.ParticipantAnswer // of former streams
	woken    chan struct{}                          // takes one: there is something to send
	leaving  bool
	idle     chan struct{} // closed when it is leaving and no call runs
}

// branchID tells branches apart.
type branchID struct {
	domain string
	tx     participant.TxID
	number int
}

// running is a call that runs.
type running struct {
	call    *assentv1.ParticipantCall
	one     bool // it is about one branch
	branch  participant.Branch
	invalid error // why the call can't be made
	ctx     callContext
	before  *running // about the same branch
	dropped bool     // nobody waits for the answer
	over    bool
	done    chan struct{} // made by who waits for it
}

func newAnswerer(ctx context.Context, p *participant.Registered, maxCalls int) *answerer {
	return &answerer{
		participant: p, maxCalls: maxCalls, ctx: ctx,
		running: make(map[uint64]*running), branches: make(map[branchID]*running), woken: make(chan struct{}, 1), idle: make(chan struct{}),
	}
}

// welcome begins a stream.
func (a *answerer) welcome(w *assentv1.Welcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	wanted := make(map[uint64]bool, len(w.GetUnanswered()))
	if w.GetServer() == a.server {
		for _, id := range w.GetUnanswered() {
			wanted[id] = true
		}
	}
	a.server = w.GetServer()
	kept := make(map[uint64]*assentv1.ParticipantAnswer)
	keep := func(answer *assentv1.ParticipantAnswer) {
		if wanted[answer.Id] {
			kept[answer.Id] = answer
		}
	}
	for _, answer := range a.kept {
		keep(answer)
	}
	for _, answer := range a.sent {
		keep(answer)
	}
	for _, answer := range a.outgoing {
		keep(answer)
	}
	a.kept, a.sent, a.outgoing, a.received = kept, nil, nil, 0
	for id, r := range a.running {
		if !wanted[id] {
			r.dropped = true
			r.ctx.cancel()
			delete(a.running, id)
		}
	}
}

// take takes what the server sent.
func (a *answerer) take(calls *assentv1.ParticipantCalls) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	came := calls.GetReceived() - a.received
	if came > uint64(len(a.sent)) {
		return fmt.Errorf("the server has got %d answers, but was sent %d since %d", calls.GetReceived(), len(a.sent), a.received)
	}
	clear(a.sent[:came])
	a.sent, a.received = a.sent[came:], calls.GetReceived()
	for _, call := range calls.GetCalls() {
		a.begin(call)
	}
	return nil
}

// begin makes a call, unless that was done already. Called with the mutex held.
func (a *answerer) begin(call *assentv1.ParticipantCall) {
	id := call.GetId()
	r, kept := a.running[id], a.kept[id]
	switch {
	case call.GetWithdraw() != nil:
		if r != nil {
			r.ctx.cancel()
		}
	case a.leaving:
		// Not answered: another instance gets it when the stream ends.
	case kept != nil:
		delete(a.kept, id)
		a.send(kept)
	case r != nil:
		// It will be answered on this stream.
	case a.active >= a.maxCalls:
		a.send(failed(id, fmt.Errorf("the instance has %d calls to make, which is its limit", a.active)))
	default:
		a.start(call)
	}
}

func (a *answerer) start(call *assentv1.ParticipantCall) {
	r := &running{call: call}
	r.ctx.parent, r.ctx.traceparent = a.ctx, call.GetTraceparent()
	if call.GetTimeoutMillis() > 0 {
		r.ctx.deadline = time.Now().Add(time.Duration(call.GetTimeoutMillis()) * time.Millisecond)
	}
	if ref, one := branchOf(call); one {
		if r.branch, r.invalid = readBranchRef(ref); r.invalid == nil {
			r.one = true
			key := branchIDOf(r.branch)
			r.before = a.branches[key]
			a.branches[key] = r
		}
	}
	a.running[call.GetId()] = r
	a.active++
	a.all.Add(1)
	go a.run(r)
}

func branchIDOf(b participant.Branch) branchID { return branchID{b.Domain, b.Tx, b.Number} }

// branchOf returns the branch that a call is about, if it is about one.
func branchOf(call *assentv1.ParticipantCall) (ref *assentv1.BranchRef, one bool) {
	switch of := call.GetCall().(type) {
	case *assentv1.ParticipantCall_Prepare:
		return of.Prepare.GetBranch(), true
	case *assentv1.ParticipantCall_Commit:
		return of.Commit.GetBranch(), true
	case *assentv1.ParticipantCall_Rollback:
		return of.Rollback.GetBranch(), true
	default:
		return nil, false
	}
}

// run makes the call once the one before about the same branch has returned: a
// withdrawn Prepare that is still at work can't meet the Rollback that follows it (R4).
func (a *answerer) run(r *running) {
	defer a.all.Done()
	var answer *assentv1.ParticipantAnswer
	defer func() {
		if answer == nil {
			answer = failed(r.call.GetId(), errExited)
		}
		a.ran(r, answer)
	}()
	switch {
	case r.invalid != nil:
		answer = failed(r.call.GetId(), fmt.Errorf("the call can't be read: %w", r.invalid))
	case !a.wait(r):
		answer = failed(r.call.GetId(), fmt.Errorf("the call before about branch %s has not returned: %w", r.branch.XID(), context.Cause(&r.ctx)))
	default:
		answer = a.answer(r)
	}
}

// wait waits for the call before; false if the context ended first.
func (a *answerer) wait(r *running) bool {
	if r.before == nil {
		return true
	}
	a.mu.Lock()
	over := r.before.over
	if !over && r.before.done == nil {
		r.before.done = make(chan struct{})
	}
	a.mu.Unlock()
	if over {
		return true
	}
	select {
	case <-r.before.done:
		return true
	case <-r.ctx.Done():
		return false
	}
}

// ran sends the answer of a call that has returned.
func (a *answerer) ran(r *running, answer *assentv1.ParticipantAnswer) {
	r.ctx.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	r.over = true
	if r.done != nil {
		close(r.done)
	}
	if key := branchIDOf(r.branch); a.branches[key] == r {
		if r.before != nil && !r.before.over { // that was not waited for to the end
			a.branches[key] = r.before
		} else {
			delete(a.branches, key)
		}
	}
	r.before = nil
	if !r.dropped {
		delete(a.running, r.call.GetId())
		a.send(answer)
	}
	if a.active--; a.leaving && a.active == 0 {
		close(a.idle)
	}
}

// send queues an answer. Called with the mutex held.
func (a *answerer) send(answer *assentv1.ParticipantAnswer) {
	a.outgoing = append(a.outgoing, answer)
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

// frame returns what is to be sent, nil if there is nothing.
func (a *answerer) frame() *assentv1.AttachRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.outgoing) == 0 {
		return nil
	}
	n, bytes := 0, 0
	for n < len(a.outgoing) && n < maxFrameCalls {
		bytes += answerBytes(a.outgoing[n])
		if n > 0 && bytes > maxFrameBytes {
			break
		}
		n++
	}
	answers := a.outgoing[:n:n]
	a.sent = append(a.sent, answers...)
	if a.outgoing = a.outgoing[n:]; len(a.outgoing) == 0 {
		a.outgoing = nil
	}
	return &assentv1.AttachRequest{Message: &assentv1.AttachRequest_Answers{Answers: &assentv1.ParticipantAnswers{Answers: answers}}}
}

// leave has the answerer make no more calls. The channel is closed when none runs.
func (a *answerer) leave() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.leaving {
		a.leaving = true
		if a.active == 0 {
			close(a.idle)
		}
	}
	return a.idle
}

// stay undoes leave, for the next stream.
func (a *answerer) stay() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaving {
		a.leaving, a.idle = false, make(chan struct{})
	}
}
