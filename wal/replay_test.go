package wal_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

func TestTheFirstOpenLeavesACatalogue(t *testing.T) {
	memory := waltest.NewMemory()
	log, inheritance := open(t, memory, config)
	require.Empty(t, inheritance)
	require.Equal(t, []record.TermMarks{{Term: log.Term()}}, log.Terms())
	require.Positive(t, memory.Bytes(), "durable before Open returns")
}

// R9: what is live or retained comes back whole, whichever terms it is spread
// over.
func TestR9TransactionsAreInherited(t *testing.T) {
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	live, ended := log.NewPlace(id(log.Term(), 1)), log.NewPlace(id(log.Term(), 2))
	force(t, log, live, begun(live), record.Enlisted{Tx: live.ID(), Participant: "bank_a", Data: []byte("x")})
	force(t, log, ended, begun(ended), decided(ended))
	require.NoError(t, log.Close(t.Context()))

	log, inheritance := open(t, memory, config)
	require.Len(t, inheritance, 2)
	a, b := inheritance[0], inheritance[1]
	require.Equal(t, live.ID(), a.State.Tx)
	require.Equal(t, []record.Branch{{Participant: "bank_a", Data: []byte("x")}}, a.State.Branches)
	require.Equal(t, record.DecisionCommit, b.State.Decision)
	require.Zero(t, b.State.Completed)
	// The second coordinator goes on where the first one was.
	force(t, log, a.Place, record.Decided{Tx: live.ID(), Decision: record.DecisionRollback, Presumed: true, Cause: record.CausePresumed, By: -1})
	force(t, log, b.Place, completed(ended))
	require.NoError(t, log.Close(t.Context()))

	log, inheritance = open(t, memory, config)
	require.Len(t, inheritance, 2)
	require.Equal(t, record.DecisionRollback, inheritance[0].State.Decision)
	require.Equal(t, "bank_a", inheritance[0].State.Branches[0].Participant)
	require.NotZero(t, inheritance[1].State.Completed)
	require.Greater(t, inheritance[0].Epoch, a.Epoch)
	require.Len(t, log.Terms(), 3)
	require.Equal(t, nth(2), log.Terms()[0].Highest, "R10")
}

// R9: an Open that is interrupted before or after any of its writes leaves a log
// that opens, and in which nothing is lost.
func TestR9OpenMayBeInterruptedAnywhere(t *testing.T) {
	config := config
	config.Retention = 24 * time.Hour
	start := time.Now()
	for _, after := range []bool{false, true} {
		for n, interrupted := 0, true; interrupted; n++ {
			memory := inheritanceOfTwo(t, config)
			want := statesOf(t, memory.Clone(), config)
			interrupted = interruptOpen(t, memory, config, n, after)
			// The second Open finds what the first had re-written, and is
			// interrupted as well.
			interruptOpen(t, memory, config, n/2, !after)
			require.Equal(t, want, statesOf(t, memory, config), "call %d, after it: %t", n, after)
			require.Less(t, n, 100)
			if !interrupted {
				require.Greater(t, n, 8, "too few calls: the inheritance does not fill two segments")
			}
		}
	}
	require.Less(t, time.Since(start), time.Hour, "else outcomes were forgotten on the way")
}

// inheritanceOfTwo returns what two coordinators left, one of whom had inherited
// from a third: live and retained transactions, more than a segment holds.
func inheritanceOfTwo(t *testing.T, config wal.Config) *waltest.Memory {
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	for n := range uint64(10) {
		tx := log.NewPlace(id(log.Term(), n+1))
		force(t, log, tx, large(tx, 40)...)
		if n%2 == 0 {
			force(t, log, tx, decided(tx))
		}
		if n == 4 {
			force(t, log, tx, completed(tx))
		}
	}
	require.NoError(t, log.Close(t.Context()))

	log, inheritance := open(t, memory, config)
	for _, inherited := range inheritance[:2] {
		force(t, log, inherited.Place, record.Preparing{Tx: inherited.State.Tx})
	}
	// On a store with several coordinators a second one lives beside the first.
	other, _ := open(t, memory, config)
	for _, log := range []*wal.Log{log, other} {
		tx := log.NewPlace(id(log.Term(), 1))
		force(t, log, tx, begun(tx))
		require.NoError(t, log.Close(t.Context()))
	}
	return memory
}

// interruptOpen opens the log in a process that dies before or after its n-th
// write. It reports whether there were so many.
func interruptOpen(t *testing.T, memory *waltest.Memory, config wal.Config, n int, after bool) bool {
	store := memory.Open()
	died := false
	log, _, err := wal.Open(t.Context(), &hooked{Store: store, hook: func(c call, do func() error) error {
		if n--; n != -1 {
			return do()
		}
		died = true
		if after {
			_ = do()
		}
		store.Crash()
		return waltest.ErrCrashed
	}}, config)
	n = -1
	if died {
		require.ErrorIs(t, err, waltest.ErrCrashed)
	} else {
		require.NoError(t, err)
		require.NoError(t, log.Close(t.Context()))
		require.NoError(t, store.Close())
	}
	return died
}

// statesOf opens the log and returns the states it finds.
func statesOf(t *testing.T, memory *waltest.Memory, config wal.Config) (states []*record.State) {
	log, inheritance := open(t, memory, config)
	for _, inherited := range inheritance {
		require.Equal(t, inherited.State.Tx, inherited.Place.ID())
		require.Positive(t, inherited.Epoch)
		require.Contains(t, log.Terms(), termOf(log, inherited.State.Tx.Term))
		states = append(states, inherited.State)
	}
	require.True(t, slices.IsSortedFunc(states, func(a, b *record.State) int { return a.Tx.Compare(b.Tx) }))
	require.NoError(t, log.Close(t.Context()))
	return states
}

func termOf(log *wal.Log, term participant.Term) record.TermMarks {
	for _, m := range log.Terms() {
		if m.Term == term {
			return m
		}
	}
	return record.TermMarks{}
}

// R9, R10: however often the log is opened, after however its last process ended, it
// holds one term and lists all, and what is in doubt is there every time.
func TestR10EveryTermStaysListed(t *testing.T) {
	memory := waltest.NewMemory()
	opened := make([]participant.Term, 0, 301)
	inDoubt := make(map[participant.TxID]*record.State)
	for restart := range 301 {
		store := memory.Open()
		log, inherited, err := wal.Open(t.Context(), store, config)
		require.NoError(t, err)
		opened = append(opened, log.Term())
		require.Equal(t, opened, listed(log))
		require.Len(t, inherited, len(inDoubt))
		for _, in := range inherited {
			require.Equal(t, inDoubt[in.State.Tx], in.State)
		}
		// Some are in doubt from the beginning to the end, others for a while.
		if restart%10 == 0 {
			tx := log.NewPlace(id(log.Term(), 1))
			branch := record.Enlisted{Tx: tx.ID(), Participant: "bank_a", Data: []byte("x")}
			force(t, log, tx, begun(tx), branch, record.Preparing{Tx: tx.ID()})
			inDoubt[tx.ID()] = onlyState(t, memory, tx.ID())
		}
		if n := len(inherited); restart%20 == 5 {
			last := inherited[n-1]
			force(t, log, last.Place, decided(last.Place), record.Completed{Tx: last.State.Tx, At: time.Now().Add(-2 * time.Hour)})
			delete(inDoubt, last.State.Tx) // its retention is over
		}
		switch restart % 3 {
		case 0:
			require.NoError(t, log.Close(t.Context()))
			require.NoError(t, store.Close())
		case 1:
			store.Crash() // nothing was released
			_ = log.Close(t.Context())
		case 2:
			require.NoError(t, log.Close(t.Context()))
			interruptOpen(t, memory, config, restart%7, true)
			// The term that it opened, if it came so far, is one of the log's.
			opened = append(opened, newTerms(t, memory, opened)...)
		}
	}
	require.Greater(t, len(opened), 301)
	require.Len(t, inDoubt, 16)
	log, _ := open(t, memory, config)
	require.NoError(t, log.Close(t.Context()))
	require.Equal(t, opened, listed(log)[:len(opened)])
	require.Equal(t, []participant.Term{log.Term()}, orphans(t, memory))
}

func listed(log *wal.Log) (terms []participant.Term) {
	for _, m := range log.Terms() {
		terms = append(terms, m.Term)
	}
	return terms
}

func orphans(t *testing.T, memory *waltest.Memory) []participant.Term {
	store := memory.Clone().Open()
	defer func() { require.NoError(t, store.Close()) }()
	terms, _, err := store.Orphans(t.Context())
	require.NoError(t, err)
	return terms
}

// newTerms returns the terms in the store that are not known yet.
func newTerms(t *testing.T, memory *waltest.Memory, known []participant.Term) []participant.Term {
	return slices.DeleteFunc(orphans(t, memory), func(term participant.Term) bool { return slices.Contains(known, term) })
}

// onlyState returns what a restart would find of a transaction.
func onlyState(t *testing.T, memory *waltest.Memory, tx participant.TxID) *record.State {
	states := statesOf(t, memory.Clone(), config)
	i := slices.IndexFunc(states, func(s *record.State) bool { return s.Tx == tx })
	require.GreaterOrEqual(t, i, 0)
	return states[i]
}

// R9: of several that want a term one gets it; the others go on without.
func TestR9ATermThatAnotherTookIsLeftToIt(t *testing.T) {
	for _, lost := range []error{wal.ErrOwned, wal.ErrNoTerm} {
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		tx := log.NewPlace(id(log.Term(), 1))
		force(t, log, tx, begun(tx))
		require.NoError(t, log.Close(t.Context()))
		_, inheritance := openStore(t, &hooked{Store: memory.Open(), hook: func(c call, do func() error) error {
			if c.name == "take over" {
				return fmt.Errorf("too late: %w", lost)
			}
			return do()
		}}, config)
		require.Empty(t, inheritance)
	}
}

// A store that stays open gets everything back from an Open that failed, also if
// that had begun to delete old terms.
func TestAFailedOpenReleasesWhatItTookOver(t *testing.T) {
	memory := inheritanceOfTwo(t, config)
	want := statesOf(t, memory.Clone(), config)
	store := memory.Open()
	broken := errors.New("broken")
	for _, failing := range []struct {
		name string
		at   int
	}{{"open", 0}, {"append", 0}, {"append", 2}, {"delete", 1}} {
		calls := 0
		_, _, err := wal.Open(t.Context(), &hooked{Store: store, hook: func(c call, do func() error) error {
			if c.name == failing.name {
				if calls++; calls > failing.at {
					return broken
				}
			}
			return do()
		}}, config)
		require.ErrorIs(t, err, broken)
	}
	log, inheritance := openStore(t, store, config)
	require.Len(t, inheritance, len(want))
	for i, inherited := range inheritance {
		require.Equal(t, want[i], inherited.State)
	}
	require.NoError(t, log.Close(t.Context()))
}

func TestAnotherDomainsLogIsRefusedBeforeAnythingIsWritten(t *testing.T) {
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	require.NoError(t, log.Close(t.Context()))
	config := config
	config.Domain = "payments"
	var writes []string
	_, _, err := wal.Open(t.Context(), &hooked{Store: memory.Open(), hook: func(c call, do func() error) error {
		writes = append(writes, c.name)
		return do()
	}}, config)
	require.ErrorIs(t, err, wal.ErrForeign)
	require.ErrorContains(t, err, `"orders"`)
	require.ErrorContains(t, err, `"payments"`)
	require.Equal(t, []string{"take over", "release"}, writes)
}

func TestAnInvalidConfigIsRefused(t *testing.T) {
	for _, c := range []wal.Config{
		{},
		{Domain: "Orders"},
		{Domain: "orders", FlushInterval: -1},
		{Domain: "orders", RetainBytes: -1},
		{Domain: "orders", RetainAtLeast: -1},
	} {
		_, _, err := wal.Open(t.Context(), waltest.NewMemory().Open(), c)
		require.Error(t, err)
	}
}

// segmentsOf are the records of the segments of a term; former is another term of
// the same log, which is gone.
type segmentsOf func(term, former participant.Term) [][]record.Record

func TestWhatCannotHaveBeenWrittenIsDamage(t *testing.T) {
	at := time.Now()
	header := func(term, former participant.Term, seq uint64) record.Header {
		return record.Header{Term: term, Seq: seq, Highest: nth(9), Mark: nth(4), Catalogue: &record.Catalogue{
			Domain: "orders", Terms: []record.TermMarks{{Term: former, Highest: nth(9), Mark: nth(4)}},
		}}
	}
	one := func(recs func(tx participant.TxID) []record.Record) segmentsOf {
		return func(term, former participant.Term) [][]record.Record {
			return [][]record.Record{append([]record.Record{header(term, former, 1)}, recs(id(former, 5))...)}
		}
	}
	for name, c := range map[string]struct {
		segments segmentsOf
		want     error
	}{
		"sound": {segments: func(term, former participant.Term) [][]record.Record {
			tx := id(former, 5)
			return [][]record.Record{{header(term, former, 1), record.Begun{Tx: tx, At: at}}, {header(term, former, 2), record.Preparing{Tx: tx}}}
		}},
		"R13: leftover at the mark": {segments: one(func(tx participant.TxID) []record.Record {
			return []record.Record{record.Preparing{Tx: id(tx.Term, 4)}}
		})},
		"R13: leftover above the mark": {want: wal.ErrDamaged, segments: one(func(tx participant.TxID) []record.Record {
			return []record.Record{record.Preparing{Tx: tx}}
		})},
		"R10: above the highest": {want: wal.ErrDamaged, segments: one(func(tx participant.TxID) []record.Record {
			return []record.Record{record.Begun{Tx: id(tx.Term, 10), At: at}}
		})},
		"R10: unlisted term": {want: wal.ErrDamaged, segments: one(func(tx participant.TxID) []record.Record {
			return []record.Record{record.Begun{Tx: id(tx.Term^1, 5), At: at}}
		})},
		"R2: contradiction": {want: wal.ErrDamaged, segments: one(func(tx participant.TxID) []record.Record {
			return []record.Record{record.Begun{Tx: tx, At: at}, record.Decided{Tx: tx, Decision: 1}, record.Decided{Tx: tx, Decision: 2}}
		})},
		"no header": {want: wal.ErrDamaged, segments: func(term, _ participant.Term) [][]record.Record {
			return [][]record.Record{{record.Begun{Tx: id(term, 1), At: at}}}
		}},
		"two headers": {want: wal.ErrDamaged, segments: func(term, former participant.Term) [][]record.Record {
			return [][]record.Record{{header(term, former, 1), header(term, former, 1)}}
		}},
		"another term's segment": {want: wal.ErrDamaged, segments: func(_, former participant.Term) [][]record.Record {
			return [][]record.Record{{header(former, former, 1)}}
		}},
		"a segment in another's place": {want: wal.ErrDamaged, segments: func(term, former participant.Term) [][]record.Record {
			return [][]record.Record{{header(term, former, 2)}}
		}},
		"a term of later": {want: wal.ErrDamaged, segments: func(term, _ participant.Term) [][]record.Record {
			return [][]record.Record{{header(term, participant.NewTerm(1<<20, 1), 1)}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			memory := waltest.NewMemory()
			writeByHand(t, memory, c.segments)
			log, _, err := wal.Open(t.Context(), memory.Open(), config)
			require.ErrorIs(t, err, c.want)
			if err == nil {
				require.NoError(t, log.Close(t.Context()))
			}
		})
	}
}

func writeByHand(t *testing.T, memory *waltest.Memory, segments segmentsOf) {
	store := memory.Open()
	former, err := store.Open(t.Context(), "by hand")
	require.NoError(t, err)
	require.NoError(t, former.Delete(t.Context()))
	stream, err := store.Open(t.Context(), "by hand")
	require.NoError(t, err)
	for i, recs := range segments(stream.Term(), former.Term()) {
		var data []byte
		for _, r := range recs {
			data, err = record.Append(data, r)
			require.NoError(t, err)
		}
		require.NoError(t, stream.Append(t.Context(), uint64(i+1), data, nil))
	}
	require.NoError(t, store.Close())
}

// misread is a store that damages what is read.
type misread struct {
	wal.Store
	damage func(seq uint64, segment []byte, fn func(uint64, []byte) error) error
}

func (m misread) Scan(ctx context.Context, term participant.Term, fn func(uint64, []byte) error) error {
	return m.Store.Scan(ctx, term, func(seq uint64, segment []byte) error {
		return m.damage(seq, slices.Clone(segment), fn)
	})
}

func TestDamageIsFound(t *testing.T) {
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	for n := range uint64(3) {
		tx := log.NewPlace(id(log.Term(), n+1))
		force(t, log, tx, begun(tx))
	}
	require.NoError(t, log.Close(t.Context()))
	newer, err := record.Append(nil, record.Preparing{Tx: id(log.Term(), 1)})
	require.NoError(t, err)
	newer[3]++ // the version, after length, array and kind
	body := newer[1 : len(newer)-crc32.Size]
	binary.LittleEndian.PutUint32(newer[len(newer)-crc32.Size:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))

	for name, c := range map[string]struct {
		want   error
		damage func(seq uint64, segment []byte, fn func(uint64, []byte) error) error
	}{
		"none": {nil, func(seq uint64, segment []byte, fn func(uint64, []byte) error) error { return fn(seq, segment) }},
		"a flipped bit": {wal.ErrDamaged, func(seq uint64, segment []byte, fn func(uint64, []byte) error) error {
			segment[len(segment)/2] ^= 4
			return fn(seq, segment)
		}},
		"a missing segment": {wal.ErrDamaged, func(seq uint64, segment []byte, fn func(uint64, []byte) error) error {
			if seq == 2 {
				return nil
			}
			return fn(seq, segment)
		}},
		"a cut segment": {wal.ErrDamaged, func(seq uint64, segment []byte, fn func(uint64, []byte) error) error {
			return fn(seq, segment[:len(segment)-1])
		}},
		"an empty segment": {wal.ErrDamaged, func(seq uint64, _ []byte, fn func(uint64, []byte) error) error {
			return fn(seq, nil)
		}},
		"a newer program's record": {wal.ErrNewer, func(seq uint64, segment []byte, fn func(uint64, []byte) error) error {
			return fn(seq, append(segment, newer...))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.Clone().Open()
			defer func() { require.NoError(t, store.Close()) }()
			log, _, err := wal.Open(t.Context(), misread{store, c.damage}, config)
			require.ErrorIs(t, err, c.want)
			if err == nil {
				require.NoError(t, log.Close(t.Context()))
			}
		})
	}
}

// FuzzOpen feeds Open a segment of frames with right checksums: it must not panic,
// and what it refuses must be typed.
func FuzzOpen(f *testing.F) {
	sum := crc32.MakeTable(crc32.Castagnoli)
	term := participant.NewTerm(1, 1)
	tx := id(term, 1)
	at := time.UnixMilli(1)
	catalogue := &record.Catalogue{Domain: "orders"}
	for _, recs := range [][]record.Record{
		{record.Header{Term: term, Seq: 1, Catalogue: catalogue}},
		{record.Header{Term: term, Seq: 1, Highest: nth(2)}, record.Begun{Tx: tx, At: at}, record.Decided{Tx: tx, Decision: 1}},
		{record.Header{Term: term, Seq: 1, Highest: nth(2), Mark: nth(1)}, record.Completed{Tx: tx, At: at}},
		{record.Header{Term: term, Seq: 1, Highest: nth(2)}, record.Begun{Tx: tx, At: at}, record.Completed{Tx: tx, At: at}},
		{record.Header{Term: term, Seq: 1, Highest: nth(2)}, record.Carried{State: record.State{Tx: tx, At: at, Branches: make([]record.Branch, 1)}}},
	} {
		var bodies []byte
		for _, r := range recs {
			frame, err := record.Append(nil, r)
			if err != nil {
				f.Fatal(err)
			}
			bodies = append(bodies, frame[:len(frame)-crc32.Size]...) // all are shorter than 128 bytes
		}
		f.Add(bodies)
	}
	f.Fuzz(func(t *testing.T, bodies []byte) {
		var segment []byte
		for len(bodies) > 0 && bodies[0] < 128 && int(bodies[0]) < len(bodies) {
			length := int(bodies[0])
			segment = append(segment, bodies[:1+length]...)
			segment = binary.LittleEndian.AppendUint32(segment, crc32.Checksum(bodies[1:1+length], sum))
			bodies = bodies[1+length:]
		}
		memory := waltest.NewMemory()
		memory.Random = func() uint32 { return 1 }
		store := memory.Open()
		defer func() { require.NoError(t, store.Close()) }()
		stream, err := store.Open(t.Context(), "by hand")
		require.NoError(t, err)
		if len(segment) > 0 {
			require.NoError(t, stream.Append(t.Context(), 1, segment, nil))
		}
		require.NoError(t, stream.Release(t.Context()))
		log, _, err := wal.Open(t.Context(), store, config)
		if err != nil {
			require.True(t, errors.Is(err, wal.ErrDamaged) || errors.Is(err, wal.ErrNewer) || errors.Is(err, wal.ErrForeign), "%v", err)
			return
		}
		require.NoError(t, log.Close(t.Context()))
	})
}

// The taker's index of transactions has keys that several ids may share.
func TestTransactionsOfOneKeyAreKeptApart(t *testing.T) {
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	var places []*wal.Place
	for n := range byte(10) {
		tx := participant.TxID{Term: log.Term()}
		tx.UUID[0], tx.UUID[8] = n, n // the halves cancel each other out
		places = append(places, log.NewPlace(tx))
		force(t, log, places[n], begun(places[n]))
	}
	for n, tx := range places {
		force(t, log, tx, record.Enlisted{Tx: tx.ID(), Participant: fmt.Sprint("bank_", n)})
	}
	require.NoError(t, log.Close(t.Context()))

	log, inheritance := open(t, memory, config)
	require.Len(t, inheritance, len(places))
	for n, inherited := range inheritance {
		require.Equal(t, places[n].ID(), inherited.State.Tx)
		require.Equal(t, fmt.Sprint("bank_", n), inherited.State.Branches[0].Participant)
	}
	require.NoError(t, log.Close(t.Context()))
}

// R5, R9: a write that fails ends the taking over, also while the next one is being
// made ready; the old terms stay.
func TestR9AFailedWriteEndsOpen(t *testing.T) {
	memory := inheritanceOfTwo(t, config)
	want := statesOf(t, memory.Clone(), config)
	failed := errors.New("disk failed once")
	appends := 0
	_, _, err := wal.Open(t.Context(), &hooked{Store: memory.Open(), hook: func(c call, do func() error) error {
		if c.name == "delete" {
			t.Error("a term was deleted")
		}
		if c.name == "append" {
			if appends++; appends == 1 {
				return failed
			}
		}
		return do()
	}}, config)
	require.ErrorIs(t, err, failed)
	require.Equal(t, 1, appends)
	require.Equal(t, want, statesOf(t, memory, config))
}
