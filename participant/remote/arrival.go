package remote

import (
	"fmt"
	"time"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// arrive makes the stream that of its instance, in place of the one it had, and
// returns the calls that the instance may know: they are sent again.
func (p *attached) arrive(s *stream, name string) (unanswered []uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ending()
	}
	i := p.instances[name]
	switch {
	case i == nil:
		i = &instance{name: name, withdrawals: make(map[uint64]branchKey)}
		p.instances[name] = i
		p.sharing = append(p.sharing, i)
	case i.stream == nil:
		p.stopWaiting(i)
		p.sharing = append(p.sharing, i)
	default:
		i.stream.end(connect.Errorf(connect.CodeAborted, "instance %q has attached again; give each process a name of its own", name))
	}
	i.stream, s.instance = s, i
	// What the instance was asked on a stream before it is asked again. Nobody waits for
	// what was withdrawn, and it is told so by what it is not asked.
	p.forgetWithdrawals(i)
	for _, a := range p.unansweredBy(i) {
		if !a.queued {
			a.queued = true
			i.queue.add(a)
		}
	}
	for _, a := range p.waiting.takeAll() {
		p.assign(a)
	}
	for _, a := range p.unansweredBy(i) {
		if a.sentTo == name {
			unanswered = append(unanswered, a.call.Id)
		}
	}
	i.wake()
	return unanswered, nil
}

// depart ends what the stream was to its instance. If it left, what it has not answered
// goes to other instances at once. If its stream broke, the branches that belong to it
// wait for it to come back.
func (p *attached) depart(s *stream, left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := s.instance
	if i == nil || i.stream != s {
		return // another stream has taken its place, or it has none
	}
	i.stream = nil
	for at, other := range p.sharing {
		if other == i {
			last := len(p.sharing) - 1
			p.sharing[at], p.sharing[last] = p.sharing[last], nil
			p.sharing = p.sharing[:last]
			break
		}
	}
	p.forgetWithdrawals(i)
	if left || p.closed || p.hub.cfg.Grace < 0 || len(p.instances)-len(p.sharing) > p.hub.cfg.MaxStreams {
		p.giveUp(i, left)
		return
	}
	p.handOver(i) // to others, but for those that wait for it
	p.hub.attaching.Add(1)
	i.grace = time.AfterFunc(p.hub.cfg.Grace, func() {
		defer p.hub.attaching.Done()
		p.mu.Lock()
		defer p.mu.Unlock()
		if i.grace != nil {
			i.grace = nil
			p.giveUp(i, false)
		}
	})
}

// giveUp ends the wait for an instance. One that left has finished what it began; one
// that was lost may be at work on a Prepare for as long as it likes, and prepare the
// branch again when it has been committed and forgotten: no other instance gets it, and
// whether the branch is prepared is unknown (R4). Called with the mutex held.
func (p *attached) giveUp(i *instance, left bool) {
	delete(p.instances, i.name)
	for _, a := range p.unansweredBy(i) {
		if !left && a.sentTo == i.name && a.call.GetPrepare() != nil {
			i.unanswered--
			delete(p.calls, a.call.Id)
			a.finish(nil, fmt.Errorf("instance %q was lost before it answered", i.name))
		}
	}
	p.handOver(i)
}

// handOver assigns the instance's calls anew. Called with the mutex held.
func (p *attached) handOver(i *instance) {
	i.queue = askedQueue{}
	for _, a := range p.unansweredBy(i) {
		i.unanswered--
		p.assign(a)
	}
}

// stopWaiting ends the wait because the instance is there. Called with the mutex held.
func (p *attached) stopWaiting(i *instance) {
	if i.grace != nil && i.grace.Stop() {
		p.hub.attaching.Done()
	}
	i.grace = nil
}

// announceClosing has all instances told that the server ends.
func (p *attached) announceClosing() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.sharing {
		i.stream.closing = true
		i.wake()
	}
}

// close ends everything.
func (p *attached) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for id, a := range p.calls {
		delete(p.calls, id)
		a.finish(nil, ErrHubClosed)
	}
	for _, i := range p.instances {
		if i.stream != nil {
			i.stream.end(ending())
			continue
		}
		p.stopWaiting(i)
		delete(p.instances, i.name)
	}
}

// maxFrameCalls and maxFrameBytes bound what goes into one message, but for a list.
const (
	maxFrameCalls = 512
	maxFrameBytes = 512 << 10
	// acknowledgeAfter is how many answers an instance keeps at most because it was
	// not told that they came.
	acknowledgeAfter = 1024
)

// frame returns what is to be sent, nil if there is nothing.
func (p *attached) frame(s *stream) *assentv1.AttachResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := s.instance
	if i.stream != s {
		return nil
	}
	calls := &assentv1.ParticipantCalls{Received: s.received}
	for bytes := 0; len(calls.Calls) < maxFrameCalls; {
		a := i.queue.take()
		if a == nil {
			break
		}
		if bytes += a.bytes; bytes > maxFrameBytes && len(calls.Calls) > 0 {
			i.queue.untake(a)
			break
		}
		calls.Calls = append(calls.Calls, a.message())
		a.queued, a.sentTo = false, i.name
		if a.call.GetPrepare() != nil {
			a.wanted = i.name // it is this instance's alone; see giveUp
		}
	}
	for len(i.toWithdraw) > 0 && len(calls.Calls) < maxFrameCalls {
		calls.Calls = append(calls.Calls, &assentv1.ParticipantCall{
			Id: i.toWithdraw[0], Call: &assentv1.ParticipantCall_Withdraw{Withdraw: &assentv1.Withdrawal{}},
		})
		i.toWithdraw = i.toWithdraw[1:]
	}
	if len(calls.Calls) == 0 && s.received-s.acknowledged < acknowledgeAfter {
		if s.closing && !s.told {
			s.told = true
			return &assentv1.AttachResponse{Message: &assentv1.AttachResponse_Closing{Closing: &assentv1.Closing{}}}
		}
		return nil
	}
	s.acknowledged = s.received
	return &assentv1.AttachResponse{Message: &assentv1.AttachResponse_Calls{Calls: calls}}
}

// take takes answers of an instance.
func (p *attached) take(s *stream, answers []*assentv1.ParticipantAnswer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := s.instance
	if i.stream != s {
		return
	}
	s.received += uint64(len(answers))
	for _, answer := range answers {
		a := p.calls[answer.GetId()]
		if a == nil || a.at != i || a.queued {
			p.withdrawn(i, answer.GetId()) // too late, if it was ever asked
			continue
		}
		delete(p.calls, answer.Id)
		i.unanswered--
		a.finish(answer, nil)
	}
	if s.received-s.acknowledged >= acknowledgeAfter {
		i.wake()
	}
}
