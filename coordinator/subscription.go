package coordinator

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// maxSubscribers bounds those that a feed serves (R12): each event looks at all.
const maxSubscribers = 1000

// Subscription is a subscriber's place in a feed. Close may be called at any time;
// otherwise for one goroutine at a time.
type Subscription struct {
	feed *Feed
	// next is the number of the next event; waiting, that it is in feed.waiting. All
	// three are guarded by feed.mu.
	next    uint64
	waiting bool
	closed  bool
	wake    chan struct{}
	taken   []Event // copied from the feed, and not returned yet
	room    [32]Event
}

// Subscribe returns a place after the event of this number: what the feed remembers of
// later ones comes first, with a gap before it if that is not all. 0 means what
// happens from now on. An error is ErrLimit for 1000 subscribers. Close it.
func (f *Feed) Subscribe(after uint64) (*Subscription, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.subscribers) >= maxSubscribers {
		return nil, fmt.Errorf("subscribe to events: %w: there are %d subscribers", ErrLimit, maxSubscribers)
	}
	if now := time.Now(); f.ring == nil || len(f.subscribers) == 0 && now.After(f.until) {
		f.start(now)
	}
	s := &Subscription{feed: f, next: after + 1, wake: make(chan struct{}, 1)}
	switch {
	case after == 0:
		s.next = f.next
	case s.next > f.next: // of a feed whose clock was ahead
		s.next = 0
	}
	f.subscribers[s] = struct{}{}
	return s, nil
}

// Next returns the next event, and waits for it. A gap comes with the number of the last event
// that is missing. Errors: ctx's, and ErrClosed.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for len(s.taken) == 0 {
		if err := ctx.Err(); err != nil {
			return Event{}, err
		}
		closed := s.take()
		switch {
		case closed:
			return Event{}, ErrClosed
		case len(s.taken) > 0:
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return Event{}, ctx.Err()
		}
	}
	e := s.taken[0]
	s.taken = s.taken[1:]
	return e, nil
}

// take copies what there is, as much as there is room for.
func (s *Subscription) take() (closed bool) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.closed {
		return true
	}
	s.taken = s.room[:0]
	if s.next < f.first {
		s.taken = append(s.taken, Event{Number: f.first - 1, Kind: EventGap, At: time.Now()})
		s.next = f.first
	}
	for ; s.next < f.next && len(s.taken) < len(s.room); s.next++ {
		s.taken = append(s.taken, f.ring[s.next%uint64(f.size)])
	}
	if len(s.taken) == 0 && !s.waiting {
		s.waiting = true
		f.waiting = append(f.waiting, s)
	}
	return false
}

// wakeUp is called with the feed's mutex held.
func (s *Subscription) wakeUp() {
	s.waiting = false
	select {
	case s.wake <- struct{}{}:
	default: // it has yet to see an earlier one
	}
}

// Close ends the subscription; a Next that waits returns ErrClosed. It may be called
// again.
func (s *Subscription) Close() {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	f.waiting = slices.DeleteFunc(f.waiting, func(o *Subscription) bool { return o == s })
	s.wakeUp()
	delete(f.subscribers, s)
	f.until = time.Now().Add(f.linger)
}
