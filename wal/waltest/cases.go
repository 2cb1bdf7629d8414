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

func termsRise(h *harness) {
	seen := map[uint32]bool{}
	var last participant.Term
	for range 3 {
		s := h.open()
		for range 4 {
			term := h.term(s).Term()
			if !term.Valid() || term <= last {
				h.Fatalf("term %s after %s", term, last)
			}
			seen[uint32(term)] = true
			last = term
		}
		h.must("close", s.Close())
		s = h.open()
		last = max(last, h.term(s).Term())
		h.Crash(h.T, s)
	}
	if len(seen) < 10 {
		h.Errorf("the random halves of 12 terms have %d values", len(seen))
	}
}

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

func orphans(h *harness) {
	s := h.open()
	if got := h.orphans(s); len(got) != 0 {
		h.Fatalf("an empty log has orphans %v", got)
	}
	a, b, c := h.term(s).Term(), h.term(s), h.term(s).Term()
	if got := h.orphans(s); len(got) != 0 {
		h.Fatalf("live terms are listed as orphans %v", got)
	}
	h.must("release", b.Release(h.ctx()))
	if got := h.orphans(s); !slices.Equal(got, []participant.Term{b.Term()}) {
		h.Fatalf("after one release, orphans are %v", got)
	}
	h.Crash(h.T, s)
	s = h.open()
	d := h.term(s).Term()
	if got := h.orphans(s); !slices.Equal(got, []participant.Term{a, b.Term(), c}) {
		h.Fatalf("after the crash, orphans are %v", got)
	}
	h.takeOver(s, b.Term())
	if got := h.orphans(s); !slices.Equal(got, []participant.Term{a, c}) {
		h.Fatalf("after a takeover, orphans are %v", got)
	}
	h.must("close", s.Close())
	if got := h.orphans(h.open()); !slices.Equal(got, []participant.Term{a, b.Term(), c, d}) {
		h.Fatalf("after close, orphans are %v", got)
	}
}

func liveTerm(h *harness) {
	s := h.open()
	stream := h.term(s)
	_, err := s.TakeOver(h.ctx(), stream.Term(), "taker")
	h.is("take over a live term", err, wal.ErrOwned)
	h.append(stream, 1, Segment(1))
	_, err = s.TakeOver(h.ctx(), stream.Term()+1, "taker")
	h.is("take over a term that never was", err, wal.ErrNoTerm)
	err = s.Scan(h.ctx(), stream.Term()+1, func(uint64, []byte) error { return nil })
	h.is("scan a term that never was", err, wal.ErrNoTerm)
}

func takeoverContinues(h *harness) {
	s := h.open()
	full, empty := h.term(s), h.term(s)
	for seq := uint64(1); seq <= 3; seq++ {
		h.append(full, seq, Segment(int(seq)))
	}
	h.append(full, 4, Segment(4), 1, 2, 3)
	h.must("close", s.Close())
	s = h.open()
	taken := h.takeOver(s, full.Term())
	_ = h.refuse(taken, 1, Segment(9))
	_ = h.refuse(taken, 4, Segment(9))
	h.append(taken, 5, Segment(5))
	h.append(h.takeOver(s, empty.Term()), 1, Segment(1))
	h.holds(s, full.Term(), 4, Segment(4), Segment(5))
	h.holds(s, empty.Term(), 1, Segment(1))
}

func epochsRise(h *harness) {
	s := h.open()
	a, b := h.term(s), h.term(s)
	epochs := map[participant.Term]uint64{a.Term(): a.Epoch(), b.Term(): b.Epoch()}
	for round := range 6 {
		if round%2 == 0 {
			h.Crash(h.T, s)
		} else {
			h.must("close", s.Close())
		}
		s = h.open()
		for term, last := range epochs {
			taken := h.takeOver(s, term)
			if taken.Epoch() <= last {
				h.Fatalf("epoch %d of term %s after %d", taken.Epoch(), term, last)
			}
			last = taken.Epoch()
			h.must("release", taken.Release(h.ctx()))
			if taken = h.takeOver(s, term); taken.Epoch() <= last {
				h.Fatalf("after a release, epoch %d of term %s after %d", taken.Epoch(), term, last)
			}
			epochs[term] = taken.Epoch()
		}
	}
}

func released(h *harness) {
	s := h.open()
	former := h.term(s)
	h.append(former, 1, Segment(1))
	h.must("release", former.Release(h.ctx()))
	h.is("append after release", h.refuse(former, 2, Segment(9)), wal.ErrFenced)
	taken := h.takeOver(s, former.Term())
	h.is("append after takeover", h.refuse(former, 2, Segment(9)), wal.ErrFenced)
	h.is("release after takeover", former.Release(h.ctx()), wal.ErrFenced)
	h.is("delete after takeover", former.Delete(h.ctx()), wal.ErrFenced)
	h.append(taken, 2, Segment(2))
	h.is("late duplicate", h.refuse(former, 2, Segment(2)), wal.ErrFenced)
	h.holds(s, taken.Term(), 1, Segment(1), Segment(2))
	_, err := s.TakeOver(h.ctx(), taken.Term(), "other")
	h.is("second takeover", err, wal.ErrOwned)
}

func deleted(h *harness) {
	s := h.open()
	before, gone, after := h.term(s), h.term(s), h.term(s)
	for seq := uint64(1); seq <= 20; seq++ {
		h.append(before, seq, Segment(int(seq), 3000, 3000))
		h.append(gone, seq, Segment(100+int(seq), 3000, 3000))
		h.append(after, seq, Segment(int(seq), 3000, 3000))
	}
	h.must("delete", gone.Delete(h.ctx()))
	h.is("append after delete", h.refuse(gone, 21, Segment(9)), wal.ErrFenced)
	check := func(s wal.Store) {
		h.Helper()
		_, known, err := s.Owner(h.ctx(), gone.Term())
		h.must("owner", err)
		if known || slices.Contains(h.orphans(s), gone.Term()) {
			h.Fatal("the deleted term is still known")
		}
		_, err = s.TakeOver(h.ctx(), gone.Term(), "taker")
		h.is("take over", err, wal.ErrNoTerm)
		h.holds(s, before.Term(), 1, many(1, 20)...)
		h.holds(s, after.Term(), 1, many(1, 20)...)
	}
	check(s)
	h.Crash(h.T, s)
	s = h.open()
	check(s)
	if again := h.term(s).Term(); again <= gone.Term() {
		h.Fatalf("term %s after the deleted %s", again, gone.Term())
	}
}

func takers(h *harness) {
	s := h.open()
	term := h.term(s).Term()
	h.Crash(h.T, s)
	s = h.open()
	h.race(term, s, s, s, s, s, s, s, s)
}

// race lets each store take the term over: exactly one must win.
func (h *harness) race(term participant.Term, stores ...wal.Store) wal.Stream {
	h.Helper()
	streams, errs := make([]wal.Stream, len(stores)), make([]error, len(stores))
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Go(func() { streams[i], errs[i] = s.TakeOver(h.ctx(), term, fmt.Sprintf("taker %d", i)) })
	}
	wg.Wait()
	var winner wal.Stream
	for i, err := range errs {
		switch {
		case err == nil && winner != nil:
			h.Fatal("two takers won")
		case err == nil:
			winner = streams[i]
		default:
			h.is("taker", err, wal.ErrOwned)
		}
	}
	if winner == nil {
		h.Fatal("no taker won")
	}
	return winner
}

func owners(h *harness) {
	owner := func(s wal.Store, term participant.Term) string {
		h.Helper()
		owner, known, err := s.Owner(h.ctx(), term)
		h.must("owner", err)
		if !known {
			h.Fatalf("term %s is not known", term)
		}
		return owner
	}
	s := h.open()
	first, err := s.Open(h.ctx(), "host-1:17")
	h.must("open", err)
	second, err := s.Open(h.ctx(), "")
	h.must("open", err)
	if got := owner(s, first.Term()); got != "host-1:17" {
		h.Fatalf("owner is %q", got)
	}
	if _, known, err := s.Owner(h.ctx(), first.Term()+1); known || err != nil {
		h.Fatalf("a term that never was: known %t, error %v", known, err)
	}
	h.Crash(h.T, s)
	s = h.open()
	if got := owner(s, first.Term()) + owner(s, second.Term()); got != "" {
		h.Fatalf("an orphan's owner is %q", got)
	}
	taken := h.takeOver(s, first.Term())
	if got := owner(s, first.Term()); got != "taker" {
		h.Fatalf("owner is %q", got)
	}
	if got := owner(s, second.Term()); got != "" {
		h.Fatalf("an orphan's owner is %q", got)
	}
	h.must("release", taken.Release(h.ctx()))
	if got := owner(s, first.Term()); got != "" {
		h.Fatalf("a released term's owner is %q", got)
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
