package waltest

import (
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
