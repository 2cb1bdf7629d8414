package waltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// ErrCrashed is what a store answers after [MemoryStore.Crash]: its process is
// gone, so nothing was written and nobody should be there to read the answer.
var ErrCrashed = errors.New("the process of this store has crashed")

// Memory is what a log's disk or cluster holds: it outlives the stores opened on
// it. Safe for concurrent use.
type Memory struct {
	// Random gives the random half of a new term. Replace it before the first
	// Open to make the numbers of a simulation repeatable.
	Random func() uint32

	mu       sync.Mutex
	terms    map[participant.Term]*memoryTerm
	counter  uint32
	epoch    uint64
	capacity int           // 0: no limit
	orphaned chan struct{} // closed and replaced when a term loses its owner
}

// memoryTerm is one stream. Segments low to high are there; none if low > high.
type memoryTerm struct {
	epoch     uint64
	owner     string
	holder    *MemoryStore // nil for an orphan
	low, high uint64
	segments  map[uint64][]byte
}

// NewMemory returns an empty log.
func NewMemory() *Memory {
	return &Memory{Random: rand.Uint32, terms: map[participant.Term]*memoryTerm{}, orphaned: make(chan struct{})}
}

// Open returns a store as one process would open it. Any number may be open at
// the same time, as on a cluster's engine.
func (m *Memory) Open() *MemoryStore {
	closing, stop := context.WithCancel(context.Background())
	return &MemoryStore{memory: m, closing: closing, stop: stop}
}

// Clone returns a copy in which every term is an orphan: what a restart would
// find if all processes died now.
func (m *Memory) Clone() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewMemory()
	c.Random, c.counter, c.epoch, c.capacity = m.Random, m.counter, m.epoch, m.capacity
	for number, t := range m.terms {
		// Segments are never changed in place, so the copy may share them.
		c.terms[number] = &memoryTerm{epoch: t.epoch, low: t.low, high: t.high, segments: maps.Clone(t.segments)}
	}
	return c
}

// Bytes returns how many bytes of segments are stored.
func (m *Memory) Bytes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bytes()
}

// SetCapacity says how many bytes of segments fit; 0, as at first, is no limit. An
// append beyond it fails.
func (m *Memory) SetCapacity(bytes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = bytes
}

func (m *Memory) bytes() int {
	n := 0
	for _, t := range m.terms {
		for _, segment := range t.segments {
			n += len(segment)
		}
	}
	return n
}

// disown makes orphans of the terms that s owns. The caller holds m.mu.
func (m *Memory) disown(s *MemoryStore) {
	for _, t := range m.terms {
		if t.holder == s {
			t.holder, t.owner = nil, ""
		}
	}
	close(m.orphaned)
	m.orphaned = make(chan struct{})
}

func (m *Memory) orphans() []participant.Term {
	var now []participant.Term
	for number, t := range m.terms {
		if t.holder == nil {
			now = append(now, number)
		}
	}
	slices.Sort(now)
	return now
}

// MemoryStore is one process's [wal.Store] on a [Memory]. It makes repetition
// safe: a repeated Append of what is already there returns nil.
type MemoryStore struct {
	memory  *Memory
	dead    error // guarded by memory.mu: what calls get once the store is closed or crashed
	closing context.Context
	stop    context.CancelFunc
	watches sync.WaitGroup
}

// Crash ends the store as the death of its process does: its terms are orphans,
// and no call of it or its streams does anything from now on.
func (s *MemoryStore) Crash() { s.end(ErrCrashed) }

// Close is a [wal.Store]'s. The terms are orphans afterwards.
func (s *MemoryStore) Close() error {
	s.end(wal.ErrClosed)
	return nil
}

func (s *MemoryStore) end(dead error) {
	s.memory.mu.Lock()
	if s.dead == nil {
		s.dead = dead
		s.memory.disown(s)
	}
	s.memory.mu.Unlock()
	s.stop()
	s.watches.Wait()
}

// Expire makes the store's terms orphans while the store lives on and believes
// to own them, as when a lease runs out in a long pause. Its appends still
// succeed until another store takes the terms over.
func (s *MemoryStore) Expire() {
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	s.memory.disown(s)
}

// lock begins a call. The caller unlocks memory.mu, whatever lock returns.
func (s *MemoryStore) lock(ctx context.Context) error {
	s.memory.mu.Lock()
	if s.dead != nil {
		return s.dead
	}
	return ctx.Err()
}

// Open is a [wal.Store]'s.
func (s *MemoryStore) Open(ctx context.Context, owner string) (wal.Stream, error) {
	m := s.memory
	defer m.mu.Unlock()
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	m.counter++
	number := participant.NewTerm(m.counter, m.Random())
	t := &memoryTerm{low: 1, segments: map[uint64][]byte{}}
	m.terms[number] = t
	return s.own(number, t, owner), nil
}

// own makes s the owner of t and shuts all former ones out. The caller holds memory.mu.
func (s *MemoryStore) own(number participant.Term, t *memoryTerm, owner string) *memoryStream {
	s.memory.epoch++
	t.epoch, t.owner, t.holder = s.memory.epoch, owner, s
	return &memoryStream{store: s, number: number, epoch: t.epoch}
}

// Orphans is a [wal.Store]'s.
func (s *MemoryStore) Orphans(ctx context.Context) ([]participant.Term, <-chan participant.Term, error) {
	m := s.memory
	defer m.mu.Unlock()
	if err := s.lock(ctx); err != nil {
		return nil, nil, err
	}
	now, later := m.orphans(), make(chan participant.Term)
	orphaned := m.orphaned
	s.watches.Go(func() { s.watch(ctx, now, orphaned, later) })
	return slices.Clone(now), later, nil
}

// watch sends the terms that become orphans until ctx ends or the store does.
func (s *MemoryStore) watch(ctx context.Context, known []participant.Term, orphaned <-chan struct{}, later chan<- participant.Term) {
	defer close(later)
	for {
		select {
		case <-orphaned:
		case <-ctx.Done():
			return
		case <-s.closing.Done():
			return
		}
		s.memory.mu.Lock()
		now := s.memory.orphans()
		orphaned = s.memory.orphaned
		s.memory.mu.Unlock()
		for _, term := range now {
			if slices.Contains(known, term) {
				continue
			}
			select {
			case later <- term:
			case <-ctx.Done():
				return
			case <-s.closing.Done():
				return
			}
		}
		known = now
	}
}

// TakeOver is a [wal.Store]'s.
func (s *MemoryStore) TakeOver(ctx context.Context, term participant.Term, owner string) (wal.Stream, error) {
	defer s.memory.mu.Unlock()
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	t := s.memory.terms[term]
	switch {
	case t == nil:
		return nil, fmt.Errorf("take over term %s: %w", term, wal.ErrNoTerm)
	case t.holder != nil:
		return nil, fmt.Errorf("take over term %s from %s: %w", term, t.owner, wal.ErrOwned)
	}
	return s.own(term, t, owner), nil
}

// Scan is a [wal.Store]'s.
func (s *MemoryStore) Scan(ctx context.Context, term participant.Term, fn func(seq uint64, segment []byte) error) error {
	err := s.lock(ctx)
	t := s.memory.terms[term]
	if err == nil && t == nil {
		err = fmt.Errorf("scan term %s: %w", term, wal.ErrNoTerm)
	}
	if err != nil {
		s.memory.mu.Unlock()
		return err
	}
	low, high, segments := t.low, t.high, maps.Clone(t.segments)
	s.memory.mu.Unlock()
	for seq := low; seq <= high; seq++ {
		if err := fn(seq, segments[seq]); err != nil {
			return err
		}
	}
	return nil
}

// Owner is a [wal.Store]'s.
func (s *MemoryStore) Owner(ctx context.Context, term participant.Term) (string, bool, error) {
	defer s.memory.mu.Unlock()
	if err := s.lock(ctx); err != nil {
		return "", false, err
	}
	t := s.memory.terms[term]
	if t == nil {
		return "", false, nil
	}
	return t.owner, true, nil
}

type memoryStream struct {
	store    *MemoryStore
	number   participant.Term
	epoch    uint64
	released bool // guarded by memory.mu
}

func (s *memoryStream) Term() participant.Term { return s.number }
func (s *memoryStream) Epoch() uint64          { return s.epoch }
func (s *memoryStream) Lost() <-chan struct{}  { return nil }

// lock begins a call that only the owner may make (R9). The caller unlocks
// memory.mu, whatever lock returns.
func (s *memoryStream) lock(ctx context.Context) (*memoryTerm, error) {
	if err := s.store.lock(ctx); err != nil {
		return nil, err
	}
	t := s.store.memory.terms[s.number]
	if t == nil || t.epoch != s.epoch || s.released {
		return nil, fmt.Errorf("term %s, epoch %d: %w", s.number, s.epoch, wal.ErrFenced)
	}
	return t, nil
}

func (s *memoryStream) Reserve(bytes int64) (int64, error) {
	m := s.store.memory
	defer m.mu.Unlock()
	if _, err := s.lock(context.Background()); err != nil {
		return 0, err
	}
	if m.capacity == 0 {
		return math.MaxInt64, nil
	}
	have := int64(m.capacity - m.bytes())
	if have < bytes {
		return have, fmt.Errorf("the store in memory has %d bytes left: raise its capacity", have)
	}
	return have, nil
}

func (s *memoryStream) Append(ctx context.Context, seq uint64, segment []byte, drop []uint64) error {
	if err := wholeFrames(segment); err != nil {
		return err
	}
	defer s.store.memory.mu.Unlock()
	t, err := s.lock(ctx)
	if err != nil {
		return err
	}
	if seq == t.high && bytes.Equal(t.segments[seq], segment) {
		return nil // a repetition: the first attempt did apply
	}
	if seq != t.high+1 {
		return fmt.Errorf("append segment %d to term %s: its last is %d", seq, s.number, t.high)
	}
	low, err := dropPrefix(t.low, t.high, drop)
	if err != nil {
		return fmt.Errorf("append segment %d to term %s: %w", seq, s.number, err)
	}
	if m := s.store.memory; m.capacity > 0 && m.bytes()+len(segment) > m.capacity {
		return fmt.Errorf("append segment %d to term %s: %w", seq, s.number, wal.ErrFull)
	}
	for _, seq := range drop {
		delete(t.segments, seq)
	}
	t.low, t.high = low, seq
	t.segments[seq] = slices.Clone(segment)
	return nil
}

func (s *memoryStream) Release(ctx context.Context) error {
	defer s.store.memory.mu.Unlock()
	t, err := s.lock(ctx)
	if err != nil {
		return err
	}
	s.released = true
	t.holder, t.owner = nil, ""
	close(s.store.memory.orphaned)
	s.store.memory.orphaned = make(chan struct{})
	return nil
}

func (s *memoryStream) Delete(ctx context.Context) error {
	defer s.store.memory.mu.Unlock()
	if _, err := s.lock(ctx); err != nil {
		return err
	}
	delete(s.store.memory.terms, s.number)
	return nil
}

// wholeFrames refuses what a driver may refuse: a segment that is empty or not a
// sequence of whole record frames.
func wholeFrames(segment []byte) error {
	if len(segment) == 0 {
		return errors.New("append an empty segment")
	}
	for rest := segment; len(rest) > 0; {
		var err error
		if _, rest, err = record.NextFrame(rest); err != nil {
			return fmt.Errorf("append a segment that isn't whole record frames: %w", err)
		}
	}
	return nil
}

// dropPrefix returns the first segment that is left of low to high. Only the
// oldest ones can be dropped, so that a segment missing in between is known to
// be damage.
func dropPrefix(low, high uint64, drop []uint64) (uint64, error) {
	sorted := slices.Sorted(slices.Values(drop))
	for i, seq := range sorted {
		if seq != low+uint64(i) || seq > high {
			return 0, fmt.Errorf("drop segments %v: the oldest are %d to %d", drop, low, high)
		}
	}
	return low + uint64(len(sorted)), nil
}
