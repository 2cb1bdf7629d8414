package waltest

import (
	"context"
	"errors"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

func takeoverFences(h *harness) {
	s, other := h.open(), h.open()
	former := h.term(s)
	h.append(former, 1, Segment(1))
	_, err := other.TakeOver(h.ctx(), former.Term(), "taker")
	h.is("take over a live term", err, wal.ErrOwned)
	h.Expire(h.T, s)
	// Nobody has taken it over yet: the epoch, not the lease, keeps others out.
	h.append(former, 2, Segment(2))
	taken := h.takeOver(other, former.Term())
	if taken.Epoch() <= former.Epoch() {
		h.Fatalf("epoch %d after %d", taken.Epoch(), former.Epoch())
	}
	h.is("late append", h.refuse(former, 3, Segment(9)), wal.ErrFenced)
	h.is("late duplicate", h.refuse(former, 2, Segment(2)), wal.ErrFenced)
	h.append(taken, 3, Segment(3), 1)
	h.is("late append", h.refuse(former, 3, Segment(3)), wal.ErrFenced)
	h.is("late append", h.refuse(former, 4, Segment(4)), wal.ErrFenced)
	h.is("late delete", former.Delete(h.ctx()), wal.ErrFenced)
	h.is("late release", former.Release(h.ctx()), wal.ErrFenced)
	h.holds(other, taken.Term(), 2, Segment(2), Segment(3))
	h.must("delete", taken.Delete(h.ctx()))
	h.is("append to a deleted term", h.refuse(former, 3, Segment(3)), wal.ErrFenced)
}

func takersShared(h *harness) {
	for range 20 {
		s := h.open()
		former := h.term(s)
		h.append(former, 1, Segment(1))
		h.Expire(h.T, s)
		winner := h.race(former.Term(), h.open(), h.open(), h.open(), h.open())
		h.append(winner, 2, Segment(2))
		h.is("late append", h.refuse(former, 2, Segment(9)), wal.ErrFenced)
	}
}

func orphansLater(h *harness) {
	s, watcher := h.open(), h.open()
	a, b, c := h.term(s), h.term(s), h.term(s)
	h.must("release", a.Release(h.ctx()))
	ctx, cancel := context.WithCancel(h.ctx())
	defer cancel()
	now, later, err := watcher.Orphans(ctx)
	h.must("orphans", err)
	if len(now) != 1 || now[0] != a.Term() {
		h.Fatalf("orphans are %v", now)
	}
	h.must("release", b.Release(h.ctx()))
	if got := <-later; got != b.Term() {
		h.Fatalf("term %s was announced, %s was released", got, b.Term())
	}
	h.Crash(h.T, s)
	if got := <-later; got != c.Term() {
		h.Fatalf("term %s was announced, %s lost its owner", got, c.Term())
	}
	cancel()
	for range later { // ends: closed when ctx ends
	}
}

// appendsRaceTakeover lets an owner that lost its lease write on while others take
// over, again and again. What was acknowledged must be there, what was refused at
// the first attempt must not.
func appendsRaceTakeover(h *harness) {
	for range 50 {
		s, other := h.open(), h.open()
		former := h.term(s)
		h.append(former, 1, Segment(1))
		h.Expire(h.T, s)
		acknowledged, done := uint64(1), make(chan error, 1)
		go func() {
			for acknowledged < 1_000_000 {
				err := former.Append(h.ctx(), acknowledged+1, Segment(int(acknowledged+1)), nil)
				if err != nil {
					done <- err
					return
				}
				acknowledged++
			}
			done <- errors.New("was never fenced")
		}()
		taken := h.takeOver(other, former.Term())
		seen := last(h, other, taken.Term())
		h.is("the former owner's last append", <-done, wal.ErrFenced)
		if seen != acknowledged {
			h.Fatalf("%d segments after the takeover, %d were acknowledged", seen, acknowledged)
		}
		h.must("close", errors.Join(s.Close(), other.Close()))
	}
}

func last(h *harness, s wal.Store, term participant.Term) (last uint64) {
	h.Helper()
	h.must("scan", s.Scan(h.ctx(), term, func(seq uint64, _ []byte) error {
		last = seq
		return nil
	}))
	return last
}
