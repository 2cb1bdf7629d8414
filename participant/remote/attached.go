package remote

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// attached is a participant whose calls go to attached instances.
type attached struct {
	hub            *Hub
	name           string
	lists, forgets bool

	mu        sync.Mutex
	lastID    uint64
	calls     map[uint64]*asked    // unanswered, wherever they are
	instances map[string]*instance // attached, or waited for
	sharing   []*instance          // attached, in no order
	next      int                  // of sharing, whose turn it is
	waiting   askedQueue           // for an instance to attach
	// lingering are instances with a withdrawn Prepare that may still be at work.
	lingering map[branchKey]*instance
	watcher   *time.Timer // nil while there are no calls
	closed    bool
}

// instance is a process that is attached under a name of its own, or was a moment ago.
type instance struct {
	name  string
	queue askedQueue // to be sent
	// withdrawals are calls it was sent that nobody waits for; toWithdraw are those of
	// which it is still to be told.
	withdrawals map[uint64]branchKey
	toWithdraw  []uint64
	unanswered  int         // calls that are its own
	stream      *stream     // nil while it is waited for
	grace       *time.Timer // ends the wait
}

// load is what the instance has to do.
func (i *instance) load() int { return i.unanswered + len(i.withdrawals) }

func newAttached(h *Hub, name string, lists, forgets bool) *attached {
	return &attached{
		hub: h, name: name, lists: lists, forgets: forgets,
		calls: make(map[uint64]*asked), instances: make(map[string]*instance), lingering: make(map[branchKey]*instance),
	}
}

func (p *attached) attachedNames() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.sharing))
	for _, i := range p.sharing {
		names = append(names, i.name)
	}
	slices.Sort(names)
	return names
}

// ask makes a call and waits for its answer.
func (p *attached) ask(ctx context.Context, a *asked) (*assentv1.ParticipantAnswer, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	a.ctx = ctx
	a.deadline, _ = ctx.Deadline()
	a.call.TimeoutMillis, a.call.Traceparent = millisUntil(a.deadline), Traceparent(ctx)
	a.answered, _ = p.hub.channels.Get().(chan answered)
	if a.answered == nil {
		a.answered = make(chan answered, 1)
	}
	defer p.hub.channels.Put(a.answered) // what is put into it once is taken out
	if err := p.put(a); err != nil {
		return nil, err
	}
	got := <-a.answered
	return got.answer, got.err
}

// put queues a call.
func (p *attached) put(a *asked) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrHubClosed
	}
	if len(p.calls) >= p.hub.cfg.MaxCalls {
		return fmt.Errorf("%d calls wait for attached instances, which is the limit (HubConfig.MaxCalls)", len(p.calls))
	}
	p.lastID++
	a.call.Id = p.lastID
	p.calls[a.call.Id] = a
	p.assign(a)
	if p.watcher == nil {
		p.hub.attaching.Add(1)
		p.watcher = time.AfterFunc(watchInterval, p.watch)
	}
	return nil
}

// watchInterval is how long a call may go on that nobody waits for any more. To wait
// for the end of each call's context would cost more than all else that is done for
// the call: contexts make their timers and channels when they are first asked.
const watchInterval = 10 * time.Millisecond

// watch withdraws the calls whose contexts have ended.
func (p *attached) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.calls {
		if a.ctx.Err() != nil {
			p.withdraw(a)
		}
	}
	if len(p.calls) > 0 {
		p.watcher.Reset(watchInterval)
		return
	}
	p.watcher = nil
	p.hub.attaching.Done()
}

// assign queues the call with an instance: its own while that is attached or waited
// for, else the one of the next two that has less to do. Called with the mutex held.
func (p *attached) assign(a *asked) {
	i := p.instances[a.wanted]
	if len(p.lingering) > 0 {
		if at := p.lingering[a.branch()]; at != nil {
			i = at // R4: there it waits until the withdrawn Prepare has returned
		}
	}
	if i == nil {
		i = p.share()
	}
	a.at, a.queued = i, i != nil
	if i == nil {
		p.waiting.add(a)
		return
	}
	i.unanswered++
	i.queue.add(a)
	i.wake()
}

func (p *attached) share() *instance {
	n := len(p.sharing)
	if n == 0 {
		return nil
	}
	p.next = (p.next + 1) % n
	one, other := p.sharing[p.next], p.sharing[(p.next+1)%n]
	if other.load() < one.load() {
		return other
	}
	return one
}

// wake has the instance's stream look at what is queued.
func (i *instance) wake() {
	if i.stream != nil {
		i.stream.wake()
	}
}

// withdraw gives a call up whose context has ended. Called with the mutex held.
func (p *attached) withdraw(a *asked) {
	delete(p.calls, a.call.Id)
	if len(p.sharing) == 0 {
		a.finish(nil, fmt.Errorf("no instance is attached: %w", context.Cause(a.ctx)))
	} else {
		a.finish(nil, fmt.Errorf("no answer: %w", context.Cause(a.ctx)))
	}
	switch i := a.at; {
	case i == nil:
		p.waiting.withdraw()
	case a.queued:
		i.unanswered--
		i.queue.withdraw()
	default:
		i.unanswered--
		var key branchKey
		if a.call.GetPrepare() != nil {
			key = a.branch()
			p.lingering[key] = i
		}
		i.withdrawals[a.call.Id] = key
		i.toWithdraw = append(i.toWithdraw, a.call.Id)
		if len(i.withdrawals) > p.hub.cfg.MaxCalls { // R12
			i.stream.end(connect.Errorf(connect.CodeResourceExhausted, "instance %q left %d withdrawn calls unanswered", i.name, len(i.withdrawals)))
		}
		i.wake()
	}
}

// withdrawn takes note that the instance has returned from a withdrawn call. Called
// with the mutex held.
func (p *attached) withdrawn(i *instance, id uint64) {
	if key := i.withdrawals[id]; p.lingering[key] == i {
		delete(p.lingering, key)
	}
	delete(i.withdrawals, id)
}

// forgetWithdrawals is for a stream that has ended: of what was withdrawn on it nothing
// more is heard. Called with the mutex held.
func (p *attached) forgetWithdrawals(i *instance) {
	for id := range i.withdrawals {
		p.withdrawn(i, id)
	}
	i.toWithdraw = nil
}

// unansweredBy returns the calls that are the instance's, in the order in which they
// were made. Called with the mutex held.
func (p *attached) unansweredBy(i *instance) []*asked {
	var calls []*asked
	for _, a := range p.calls {
		if a.at == i {
			calls = append(calls, a)
		}
	}
	slices.SortFunc(calls, func(a, b *asked) int { return cmp.Compare(a.call.Id, b.call.Id) })
	return calls
}

var _ participant.Participant = (*attached)(nil)
