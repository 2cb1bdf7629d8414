package waltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

func segmentsComeBack(h *harness) {
	s := h.open()
	stream := h.term(s)
	h.holds(s, stream.Term(), 1)
	segments := [][]byte{Segment(1), Segment(2, 10, 20), Segment(3, 4000, 1, 4000)}
	for i, segment := range segments {
		h.append(stream, uint64(i+1), segment)
	}
	h.holds(s, stream.Term(), 1, segments...)
	h.must("close", s.Close())
	h.holds(h.open(), stream.Term(), 1, segments...)
}

// sizes includes the longest segment the log writes, and frames around every size
// at which a driver may cut.
func sizes(h *harness) {
	long := make([]int, 260)
	for i := range long {
		long[i] = 4000
	}
	segments := [][]byte{Segment(1, long...), Segment(2, participant.MaxData)}
	for size := 1900; size < 2100; size += 7 {
		segments = append(segments, Segment(size, size, 1, 100, size-200, size))
	}
	s := h.open()
	stream := h.term(s)
	for i, segment := range segments {
		h.append(stream, uint64(i+1), segment)
	}
	h.holds(s, stream.Term(), 1, segments...)
	h.Crash(h.T, s)
	h.holds(h.open(), stream.Term(), 1, segments...)
}

func segmentUntouched(h *harness) {
	s := h.open()
	stream := h.term(s)
	given := Segment(1, 3000, 10)
	h.append(stream, 1, given)
	if !bytes.Equal(given, Segment(1, 3000, 10)) {
		h.Fatal("append changed the segment")
	}
	clear(given)
	h.append(stream, 2, Segment(2))
	h.holds(s, stream.Term(), 1, Segment(1, 3000, 10), Segment(2))
}

func termsApart(h *harness) {
	s := h.open()
	a, b, empty := h.term(s), h.term(s), h.term(s)
	for seq := uint64(1); seq <= 5; seq++ {
		h.append(a, seq, Segment(int(seq), 100))
		h.append(b, seq, Segment(100+int(seq), 3000))
	}
	h.append(a, 6, Segment(6), 1, 2, 3)
	h.must("delete", empty.Delete(h.ctx()))
	check := func(s wal.Store) {
		h.Helper()
		h.holds(s, a.Term(), 4, Segment(4, 100), Segment(5, 100), Segment(6))
		h.holds(s, b.Term(), 1, Segment(101, 3000), Segment(102, 3000), Segment(103, 3000), Segment(104, 3000), Segment(105, 3000))
	}
	check(s)
	h.must("close", s.Close())
	check(h.open())
}

func dropPrefixes(h *harness) {
	s := h.open()
	stream, neighbour := h.term(s), h.term(s)
	h.append(neighbour, 1, Segment(1))
	const last = 40
	for seq := uint64(1); seq <= last; seq++ {
		h.append(stream, seq, Segment(int(seq), 3000, 3000))
	}
	h.append(stream, last+1, Segment(last+1), 1)
	h.append(stream, last+2, Segment(last+2), 4, 2, 3)
	h.holds(s, stream.Term(), 5, append(many(5, last), Segment(last+1), Segment(last+2))...)
	var rest []uint64
	for seq := uint64(5); seq <= last+2; seq++ {
		rest = append(rest, seq)
	}
	h.append(stream, last+3, Segment(last+3), rest...)
	h.holds(s, stream.Term(), last+3, Segment(last+3))
	h.Crash(h.T, s)
	s = h.open()
	h.holds(s, stream.Term(), last+3, Segment(last+3))
	h.holds(s, neighbour.Term(), 1, Segment(1))
}

func many(low, high int) (segments [][]byte) {
	for seq := low; seq <= high; seq++ {
		segments = append(segments, Segment(seq, 3000, 3000))
	}
	return segments
}

func dropElse(h *harness) {
	for _, drop := range [][]uint64{{2}, {1, 3}, {0}, {4}, {1, 2, 3, 4}, {1, 1}} {
		s := h.open()
		stream := h.term(s)
		for seq := uint64(1); seq <= 3; seq++ {
			h.append(stream, seq, Segment(int(seq)))
		}
		_ = h.refuse(stream, 4, Segment(4), drop...)
		h.holds(s, stream.Term(), 1, Segment(1), Segment(2), Segment(3))
		h.must("close", s.Close())
	}
}

func allOrNothing(h *harness) {
	s := h.open()
	stream := h.term(s)
	for seq := uint64(1); seq <= 3; seq++ {
		h.append(stream, seq, Segment(int(seq), 3000))
	}
	for _, seq := range []uint64{0, 1, 3, 5, 1 << 63} {
		_ = h.refuse(stream, seq, Segment(9), 1)
	}
	check := func(s wal.Store) {
		h.Helper()
		h.holds(s, stream.Term(), 1, Segment(1, 3000), Segment(2, 3000), Segment(3, 3000))
	}
	check(s)
	h.Crash(h.T, s)
	check(h.open())
}

// lateDuplicate: a request that was delayed on its way arrives after newer ones.
func lateDuplicate(h *harness) {
	s := h.open()
	stream := h.term(s)
	h.append(stream, 1, Segment(1))
	h.append(stream, 2, Segment(2))
	_ = h.refuse(stream, 1, Segment(1))
	_ = h.refuse(stream, 2, Segment(9))
	h.holds(s, stream.Term(), 1, Segment(1), Segment(2))
	h.append(stream, 3, Segment(3), 1, 2)
	_ = h.refuse(stream, 2, Segment(2))
	h.holds(s, stream.Term(), 3, Segment(3))
}

func repeated(h *harness) {
	s := h.open()
	stream := h.term(s)
	for seq := uint64(1); seq <= 3; seq++ {
		h.append(stream, seq, Segment(int(seq)))
	}
	h.append(stream, 4, Segment(4), 1, 2)
	err := stream.Append(h.ctx(), 4, Segment(4), []uint64{1, 2})
	if h.repeats && err != nil {
		h.Fatalf("repetition: %v", err)
	}
	if errors.Is(err, wal.ErrFenced) {
		h.Fatalf("nobody took the term over: %v", err)
	}
	h.holds(s, stream.Term(), 3, Segment(3), Segment(4))
	if h.repeats {
		h.append(stream, 5, Segment(5), 3)
		h.holds(s, stream.Term(), 4, Segment(4), Segment(5))
	}
}

func cancelled(h *harness) {
	s := h.open()
	stream := h.term(s)
	h.append(stream, 1, Segment(1))
	ctx, cancel := context.WithCancel(h.ctx())
	cancel()
	_, err := s.Open(ctx, "owner")
	h.is("open", err, context.Canceled)
	_, _, err = s.Orphans(ctx)
	h.is("orphans", err, context.Canceled)
	err = stream.Append(ctx, 2, Segment(2), []uint64{1})
	h.is("append", err, context.Canceled)
	// Whether it was applied is unknown; what is there is one or the other, whole.
	h.must("close", s.Close())
	s = h.open()
	taken := h.takeOver(s, stream.Term())
	var got []uint64
	h.must("scan", s.Scan(h.ctx(), taken.Term(), func(seq uint64, _ []byte) error {
		got = append(got, seq)
		return nil
	}))
	if !slices.Equal(got, []uint64{1}) && !slices.Equal(got, []uint64{2}) {
		h.Fatalf("segments %v", got)
	}
}

func crash(h *harness) {
	s := h.open()
	stream := h.term(s)
	for seq := uint64(1); seq <= 20; seq++ {
		h.append(stream, seq, Segment(int(seq), 3000, 3000))
	}
	h.Crash(h.T, s)
	if err := stream.Append(h.ctx(), 21, Segment(21), nil); err == nil {
		h.Fatal("an append after the crash succeeded")
	}
	s = h.open()
	h.holds(s, stream.Term(), 1, many(1, 20)...)
	taken := h.takeOver(s, stream.Term())
	h.append(taken, 21, Segment(21), 1, 2)
	h.Crash(h.T, s)
	h.holds(h.open(), stream.Term(), 3, append(many(3, 20), Segment(21))...)
}

// crashAround lets the process die between write and answer, and before the write.
func crashAround(h *harness) {
	for n := 1; n <= 4; n++ {
		for _, applied := range []bool{false, true} {
			s := h.open()
			lost := errors.New("no answer")
			stream, err := Faulty(s, At(OpAppend, n, Fault{Err: lost, Applied: applied})).Open(h.ctx(), "owner")
			h.must("open a term", err)
			for seq := uint64(1); err == nil; seq++ {
				var drop []uint64
				if seq > 2 {
					drop = []uint64{seq - 2}
				}
				err = stream.Append(h.ctx(), seq, Segment(int(seq), 3000, 3000), drop)
			}
			h.is(fmt.Sprintf("append %d", n), err, lost)
			h.Crash(h.T, s)
			last := n
			if !applied {
				last--
			}
			s = h.open()
			taken := h.takeOver(s, stream.Term())
			h.holds(s, taken.Term(), uint64(max(last-1, 1)), many(max(last-1, 1), last)...)
			h.append(taken, uint64(last+1), Segment(9))
			h.must("close", s.Close())
		}
	}
}

func scanStops(h *harness) {
	s := h.open()
	stream := h.term(s)
	for seq := uint64(1); seq <= 3; seq++ {
		h.append(stream, seq, Segment(int(seq)))
	}
	stop, calls := errors.New("stop"), 0
	err := s.Scan(h.ctx(), stream.Term(), func(seq uint64, _ []byte) error {
		calls++
		if seq == 2 {
			return stop
		}
		return nil
	})
	h.is("scan", err, stop)
	if calls != 2 {
		h.Fatalf("fn was called %d times", calls)
	}
	h.append(stream, 4, Segment(4))
}

func afterClose(h *harness) {
	s := h.open()
	stream := h.term(s)
	h.append(stream, 1, Segment(1))
	h.must("close", s.Close())
	h.must("second close", s.Close())
	h.is("append", h.refuse(stream, 2, Segment(2)), wal.ErrClosed)
	_, err := s.Open(h.ctx(), "owner")
	h.is("open", err, wal.ErrClosed)
	_, _, err = s.Orphans(h.ctx())
	h.is("orphans", err, wal.ErrClosed)
	_, err = s.TakeOver(h.ctx(), stream.Term(), "taker")
	if err == nil {
		h.Fatal("take over succeeded")
	}
	h.is("scan", s.Scan(h.ctx(), stream.Term(), func(uint64, []byte) error { return nil }), wal.ErrClosed)
	if err := stream.Release(h.ctx()); err == nil {
		h.Fatal("release succeeded")
	}
	h.holds(h.open(), stream.Term(), 1, Segment(1))
}

func concurrentTerms(h *harness) {
	s := h.open()
	const streams, appends = 4, 10
	terms := make([]participant.Term, streams)
	errs := make([]error, streams)
	var wg sync.WaitGroup
	for i := range streams {
		wg.Go(func() {
			stream, err := s.Open(h.ctx(), "owner")
			if err != nil {
				errs[i] = err
				return
			}
			terms[i] = stream.Term()
			for seq := uint64(1); seq <= appends && errs[i] == nil; seq++ {
				errs[i] = stream.Append(h.ctx(), seq, Segment(100*i+int(seq), 3000), nil)
			}
			if _, _, err := s.Owner(h.ctx(), terms[i]); err != nil {
				errs[i] = err
			}
		})
	}
	wg.Wait()
	h.must("append", errors.Join(errs...))
	h.Crash(h.T, s)
	s = h.open()
	for i, term := range terms {
		var want [][]byte
		for seq := 1; seq <= appends; seq++ {
			want = append(want, Segment(100*i+seq, 3000))
		}
		h.holds(s, term, 1, want...)
	}
}
