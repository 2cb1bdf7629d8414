package waltest

import (
	"context"
	"fmt"
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

// Op is a kind of call of a store or one of its streams.
type Op uint8

// The calls that can fail.
const (
	OpOpen Op = 1 + iota
	OpOrphans
	OpTakeOver
	OpScan
	OpOwner
	OpAppend
	OpRelease
	OpDelete
)

func (o Op) String() string {
	names := [...]string{OpOpen: "open", OpOrphans: "orphans", OpTakeOver: "takeover", OpScan: "scan", OpOwner: "owner", OpAppend: "append", OpRelease: "release", OpDelete: "delete"}
	if o == 0 || int(o) >= len(names) {
		return fmt.Sprintf("invalid op %d", uint8(o))
	}
	return names[o]
}

// Call is what a [Plan] is asked about.
type Call struct {
	Op   Op
	N    int              // counts the calls of this Op from 1
	Term participant.Term // zero for OpOpen and OpOrphans
	Seq  uint64           // of an append
	Drop []uint64         // of an append
}

// Fault is how a call goes wrong. The zero value is: it does not.
type Fault struct {
	// Err is the answer.
	Err error
	// Applied makes the call take effect before Err is answered: the answer was
	// lost, not the request. If the call fails by itself, its own error is answered.
	Applied bool
	// Panic, if not nil, is panicked with in place of Err.
	Panic any
}

// Plan decides what becomes of a call, before it is made. It is called by one
// goroutine at a time and may block, or crash the store beneath.
type Plan func(Call) Fault

// At is the plan in which the nth call of op goes wrong, and no other.
func At(op Op, n int, fault Fault) Plan {
	return func(c Call) Fault {
		if c.Op == op && c.N == n {
			return fault
		}
		return Fault{}
	}
}

// Faulty returns a store on s whose calls fail as planned. Repeating an append
// that was applied works if s makes repetition safe, as [Memory] does. The channels
// of Orphans and Lost, Reserve and Close are those of s.
func Faulty(s wal.Store, plan Plan) wal.Store {
	return &faulty{Store: s, plan: plan, calls: map[Op]int{}}
}

type faulty struct {
	wal.Store
	mu    sync.Mutex
	plan  Plan
	calls map[Op]int
}

// call makes the call through apply, or not, as planned.
func (f *faulty) call(c Call, apply func() error) error {
	fault := f.ask(c)
	if fault.Err == nil && fault.Panic == nil {
		return apply()
	}
	if fault.Applied {
		if err := apply(); err != nil {
			return err
		}
	}
	if fault.Panic != nil {
		panic(fault.Panic)
	}
	return fault.Err
}

func (f *faulty) ask(c Call) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[c.Op]++
	c.N = f.calls[c.Op]
	return f.plan(c)
}

func (f *faulty) Open(ctx context.Context, owner string) (s wal.Stream, err error) {
	err = f.call(Call{Op: OpOpen}, func() error {
		s, err = f.Store.Open(ctx, owner)
		return err
	})
	return f.stream(s, err)
}

func (f *faulty) TakeOver(ctx context.Context, term participant.Term, owner string) (s wal.Stream, err error) {
	err = f.call(Call{Op: OpTakeOver, Term: term}, func() error {
		s, err = f.Store.TakeOver(ctx, term, owner)
		return err
	})
	return f.stream(s, err)
}

func (f *faulty) stream(s wal.Stream, err error) (wal.Stream, error) {
	if err != nil {
		return nil, err
	}
	return &faultyStream{Stream: s, store: f}, nil
}

func (f *faulty) Orphans(ctx context.Context) (now []participant.Term, later <-chan participant.Term, err error) {
	err = f.call(Call{Op: OpOrphans}, func() error {
		now, later, err = f.Store.Orphans(ctx)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return now, later, nil
}

func (f *faulty) Scan(ctx context.Context, term participant.Term, fn func(seq uint64, segment []byte) error) error {
	return f.call(Call{Op: OpScan, Term: term}, func() error { return f.Store.Scan(ctx, term, fn) })
}

func (f *faulty) Owner(ctx context.Context, term participant.Term) (owner string, known bool, err error) {
	err = f.call(Call{Op: OpOwner, Term: term}, func() error {
		owner, known, err = f.Store.Owner(ctx, term)
		return err
	})
	if err != nil {
		return "", false, err
	}
	return owner, known, nil
}

type faultyStream struct {
	wal.Stream
	store *faulty
}

func (s *faultyStream) Append(ctx context.Context, seq uint64, segment []byte, drop []uint64) error {
	return s.store.call(Call{Op: OpAppend, Term: s.Term(), Seq: seq, Drop: drop}, func() error {
		return s.Stream.Append(ctx, seq, segment, drop)
	})
}

func (s *faultyStream) Release(ctx context.Context) error {
	return s.store.call(Call{Op: OpRelease, Term: s.Term()}, func() error { return s.Stream.Release(ctx) })
}

func (s *faultyStream) Delete(ctx context.Context) error {
	return s.store.call(Call{Op: OpDelete, Term: s.Term()}, func() error { return s.Stream.Delete(ctx) })
}
