package waltest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// harness is what a case works with. Its methods fail the test.
type harness struct {
	*testing.T
	Log
	repeats bool
}

func (h *harness) ctx() context.Context { return h.Context() }

// open opens a store that is closed when the case ends.
func (h *harness) open() wal.Store {
	h.Helper()
	s := h.Open(h.T)
	h.Cleanup(func() { _ = s.Close() }) // most are closed or crashed by then
	return s
}

func (h *harness) term(s wal.Store) wal.Stream {
	h.Helper()
	stream, err := s.Open(h.ctx(), "owner")
	h.must("open a term", err)
	return stream
}

func (h *harness) takeOver(s wal.Store, term participant.Term) wal.Stream {
	h.Helper()
	stream, err := s.TakeOver(h.ctx(), term, "taker")
	h.must("take over", err)
	if stream.Term() != term {
		h.Fatalf("took over term %s, got a stream of term %s", term, stream.Term())
	}
	return stream
}

func (h *harness) append(s wal.Stream, seq uint64, segment []byte, drop ...uint64) {
	h.Helper()
	if err := s.Append(h.ctx(), seq, segment, drop); err != nil {
		h.Fatalf("append %d, drop %v: %v", seq, drop, err)
	}
}

// refuse makes an append that must fail.
func (h *harness) refuse(s wal.Stream, seq uint64, segment []byte, drop ...uint64) error {
	h.Helper()
	err := s.Append(h.ctx(), seq, segment, drop)
	if err == nil {
		h.Fatalf("append %d, drop %v: succeeded", seq, drop)
	}
	return err
}

// holds checks that the term has exactly these segments, from seq low on.
func (h *harness) holds(s wal.Store, term participant.Term, low uint64, segments ...[]byte) {
	h.Helper()
	seq := low
	h.must("scan", s.Scan(h.ctx(), term, func(got uint64, segment []byte) error {
		h.Helper()
		i := int(got - low)
		if got != seq || i >= len(segments) {
			h.Fatalf("scan gave segment %d, want %d of %d to %d", got, seq, low, low+uint64(len(segments))-1)
		}
		if !bytes.Equal(segment, segments[i]) {
			h.Fatalf("segment %d has other content: %d bytes, want %d", got, len(segment), len(segments[i]))
		}
		seq++
		return nil
	}))
	if seq != low+uint64(len(segments)) {
		h.Fatalf("scan ended before segment %d, want up to %d", seq, low+uint64(len(segments))-1)
	}
}

func (h *harness) orphans(s wal.Store) []participant.Term {
	h.Helper()
	ctx, cancel := context.WithCancel(h.ctx())
	defer cancel()
	now, _, err := s.Orphans(ctx)
	h.must("orphans", err)
	if !slices.IsSorted(now) {
		h.Fatalf("orphans %v aren't oldest first", now)
	}
	return now
}

func (h *harness) must(what string, err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("%s: %v", what, err)
	}
}

func (h *harness) is(what string, err, want error) {
	h.Helper()
	if !errors.Is(err, want) {
		h.Fatalf("%s: got %v, want %v", what, err, want)
	}
}

// Segment returns a segment whose content depends on n, of one record frame for
// each size, with about that many bytes.
func Segment(n int, sizes ...int) []byte {
	if len(sizes) == 0 {
		sizes = []int{0}
	}
	var segment []byte
	for i, size := range sizes {
		tx := participant.TxID{Term: participant.NewTerm(1, uint32(n)), UUID: uuid.UUID{0: byte(n), 1: byte(n >> 8), 2: byte(i)}}
		var r record.Record = record.Preparing{Tx: tx}
		if size > 0 {
			r = record.Enlisted{Tx: tx, Number: i % participant.MaxBranches, Participant: "p", Data: bytes.Repeat([]byte{byte(n + i)}, size)}
		}
		var err error
		if segment, err = record.Append(segment, r); err != nil {
			panic(err) // a size beyond participant.MaxData
		}
	}
	return segment
}
