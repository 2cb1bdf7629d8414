package wal_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// group is how many small segments a drop takes at least.
const group = 64

// finish runs a transaction from its beginning to its end, as one segment.
func finish(t testing.TB, log *wal.Log, n uint64) participant.TxID {
	t.Helper()
	tx := log.NewPlace(id(log.Term(), n))
	force(t, log, tx, begun(tx), decided(tx), completed(tx))
	return tx.ID()
}

// collect makes a config's Forgotten note what it is told. The writer calls it
// after the batch is done, so what a test reads may be one append old.
func collect(config *wal.Config) func() []participant.TxID {
	told := make(chan participant.TxID, 1<<20)
	config.Forgotten = func(ids []participant.TxID) {
		for _, id := range ids {
			told <- id
		}
	}
	return func() (all []participant.TxID) {
		synctest.Wait()
		for len(told) > 0 {
			all = append(all, <-told)
		}
		return all
	}
}

// R13: at the mark and below it a transaction is forgotten, above it is undecided,
// and both stay so when the log is opened again.
func TestR13AbsenceHasTwoMeanings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.Retention = time.Hour
		forgotten := collect(&config)
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		require.Equal(t, wal.AbsentNeverBegun, log.Absent(id(log.Term(), 1)))
		for n := range uint64(group) {
			finish(t, log, 10*(n+1))
		}
		time.Sleep(time.Hour)
		require.Empty(t, forgotten(), "R13: an idle log forgets nothing")
		live := log.NewPlace(id(log.Term(), 10*group+5))
		force(t, log, live, begun(live))
		require.Equal(t, group, len(forgotten()))
		const mark = 10 * group

		former := log.Term()
		check := func(log *wal.Log, never wal.Absence) {
			require.Equal(t, wal.AbsentForgotten, log.Absent(id(former, mark)))
			require.Equal(t, wal.AbsentForgotten, log.Absent(id(former, mark-1)))
			require.Equal(t, wal.AbsentUndecided, log.Absent(id(former, mark+1)))
			require.Equal(t, never, log.Absent(id(former, 10*group+6)))
			require.Equal(t, wal.AbsentForeign, log.Absent(id(former^1, mark)))
			require.Equal(t, record.TermMarks{Term: former, Highest: nth(10*group + 5), Mark: nth(mark)}, termOf(log, former))
		}
		check(log, wal.AbsentNeverBegun)
		for range 3 {
			require.NoError(t, log.Close(t.Context()))
			var inheritance []wal.Inherited
			log, inheritance = open(t, memory, config)
			require.Len(t, inheritance, 1)
			require.Equal(t, live.ID(), inheritance[0].State.Tx)
			check(log, wal.AbsentUndecided)
		}
	})
}

// R13: forgetting what another term left raises that term's mark.
func TestR13InheritedOutcomesAreForgottenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.Retention = time.Hour
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		former := finish(t, log, 7)
		require.NoError(t, log.Close(t.Context()))

		forgotten := collect(&config)
		log, inheritance := open(t, memory, config)
		require.Equal(t, former, inheritance[0].State.Tx)
		time.Sleep(time.Hour)
		for n := range uint64(group) {
			finish(t, log, n+1)
		}
		require.Empty(t, forgotten())
		time.Sleep(time.Hour)
		finish(t, log, group+1)
		require.Equal(t, group+1, len(forgotten()))
		require.Equal(t, wal.AbsentForgotten, log.Absent(former))
		require.Equal(t, wal.AbsentUndecided, log.Absent(id(former.Term, 8)))
		require.NoError(t, log.Close(t.Context()))

		log, inheritance = open(t, memory, config)
		require.Len(t, inheritance, 1)
		require.Equal(t, wal.AbsentForgotten, log.Absent(former))
		require.Equal(t, wal.AbsentUndecided, log.Absent(id(former.Term, 8)))
	})
}

// R13: a former term's mark is durable although the segment with the last
// catalogue was dropped long ago.
func TestR13FormerMarksOutliveTheirSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.Retention = time.Hour
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		var former []participant.TxID
		for n := range uint64(3) { // each large enough for a segment, and a group, of its own
			tx := log.NewPlace(id(log.Term(), n+1))
			force(t, log, tx, append(large(tx, 64), completed(tx))...)
			former = append(former, tx.ID())
			time.Sleep(time.Minute)
		}
		require.NoError(t, log.Close(t.Context()))

		log, _ = open(t, memory, config)
		time.Sleep(time.Hour - 3*time.Minute)
		for n, tx := range former {
			finish(t, log, uint64(n+1))
			require.Equal(t, wal.AbsentForgotten, log.Absent(tx))
			require.Equal(t, wal.AbsentUndecided, log.Absent(id(tx.Term, uint64(n+2))))
			later, _ := open(t, memory.Clone(), config)
			require.Equal(t, log.Terms()[0], later.Terms()[0])
			require.NoError(t, later.Close(t.Context()))
			time.Sleep(time.Minute)
		}
	})
}

// R13: a mark never falls, in whatever order transactions are forgotten.
func TestR13MarksOnlyRise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.Retention = -1
		log, _ := open(t, waltest.NewMemory(), config)
		for n := uint64(10 * group); n > 0; n-- {
			finish(t, log, n)
		}
		require.Equal(t, wal.AbsentForgotten, log.Absent(id(log.Term(), 10*group)))
	})
}

func TestRetentionEndsEarlyWhereBytesAreShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.RetainBytes = 64 << 10
		config.RetainAtLeast = time.Minute
		forgotten := collect(&config)
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		n := uint64(0)
		for range 2000 {
			n++
			finish(t, log, n)
		}
		require.Empty(t, forgotten(), "kept at least for a minute")
		before := memory.Bytes()
		require.Greater(t, before, 3*64<<10)
		time.Sleep(time.Minute)
		for range 10 {
			n++
			finish(t, log, n)
		}
		require.LessOrEqual(t, memory.Bytes(), 64<<10+10*200)
		told := forgotten()
		require.Greater(t, len(told), 1000)
		for i, tx := range told {
			require.Equal(t, id(log.Term(), uint64(i+1)), tx, "the oldest go first")
		}
		require.NoError(t, log.Close(t.Context()))

		log, inheritance := open(t, memory, config)
		require.Len(t, inheritance, int(n)-len(told))
		require.NoError(t, log.Close(t.Context()))
		time.Sleep(time.Minute)
		config.RetainBytes = 1 << 10
		log, inheritance = open(t, memory, config)
		kept := len(inheritance)
		require.Greater(t, kept, 5)
		require.Less(t, kept, 20)
		require.Equal(t, id(log.Terms()[0].Term, n), inheritance[kept-1].State.Tx, "the newest stay")
	})
}

func TestWithoutRetentionOutcomesGoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.Retention = -1
		forgotten := collect(&config)
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		for n := range uint64(10 * group) {
			finish(t, log, n+1)
		}
		require.Greater(t, len(forgotten()), 9*group)
		require.Less(t, log.Stats().Segments, group)
		require.NoError(t, log.Close(t.Context()))
		_, inheritance := open(t, memory, config)
		require.Empty(t, inheritance)
	})
}

// What is left of a forgotten transaction in segments younger than its home is
// neither damage nor a transaction.
func TestR13LeftoversAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.Retention = -1
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		var txs []*wal.Place
		for n := range uint64(2 * group) {
			txs = append(txs, log.NewPlace(id(log.Term(), n+1)))
			force(t, log, txs[n], begun(txs[n]))
		}
		for _, tx := range txs {
			force(t, log, tx, decided(tx))
		}
		for i, tx := range txs {
			force(t, log, tx, completed(tx))
			if i%10 == 0 {
				found := statesOf(t, memory.Clone(), config)
				require.Len(t, found, len(txs)-i-1)
				for k, state := range found {
					require.Equal(t, txs[i+1+k].ID(), state.Tx)
					require.Equal(t, record.DecisionCommit, state.Decision)
				}
			}
		}
	})
}

// R12: neither one transaction that never ends nor ten thousand keep the log from
// dropping what is older than they are in it.
func TestR12StuckTransactionsDoNotPinTheLog(t *testing.T) {
	for _, c := range []struct {
		stuck, others int
		limit         int
	}{
		{stuck: 1, others: 100_000, limit: 5 << 20},
		{stuck: 10_000, others: 100_000, limit: 5 << 20},
	} {
		config := config
		config.RetainBytes = 1 << 20
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		n := uint64(0)
		stuck := make(map[participant.TxID]*wal.Place)
		for range c.stuck {
			n++
			tx := log.NewPlace(id(log.Term(), n))
			appended(t, log, tx, n%100 == 0, begun(tx), record.Enlisted{Tx: tx.ID(), Participant: "bank_a", Data: []byte("x")})
			stuck[tx.ID()] = tx
		}
		peak := 0
		for i := range c.others {
			n++
			tx := log.NewPlace(id(log.Term(), n))
			b := appended(t, log, tx, i%50 == 0, begun(tx), decided(tx), completed(tx))
			if i%50 == 0 {
				<-b.Done()
				require.NoError(t, b.Err())
				peak = max(peak, memory.Bytes())
			}
		}
		require.Less(t, peak, c.limit)
		require.GreaterOrEqual(t, log.Stats().Carried, int64(c.stuck), "else nothing was shown")
		require.NoError(t, log.Close(t.Context()))

		log, inheritance := open(t, memory, config)
		for _, inherited := range inheritance {
			if !inherited.State.Completed.IsZero() {
				continue
			}
			require.Equal(t, "bank_a", inherited.State.Branches[0].Participant)
			require.NotNil(t, stuck[inherited.State.Tx])
			delete(stuck, inherited.State.Tx)
		}
		require.Empty(t, stuck)
		require.NoError(t, log.Close(t.Context()))
	}
}

// What lives may be more than the log is to keep: then it keeps that, and does not
// spend every append on re-writing it.
func TestALargeLiveSetIsNotCarriedForEver(t *testing.T) {
	config := config
	config.RetainBytes = 1
	memory := waltest.NewMemory()
	log, _ := openStore(t, &hooked{Store: memory.Open(), hook: func(c call, do func() error) error {
		if len(c.segment) > 1<<20 {
			t.Errorf("segment of %d bytes", len(c.segment))
		}
		return do()
	}}, config)
	var stuck []*wal.Place
	for n := range uint64(100) { // 17 MB
		tx := log.NewPlace(id(log.Term(), n+1))
		stuck = append(stuck, tx)
		force(t, log, tx, large(tx, 40)...)
	}
	live := log.Stats().LiveBytes
	written := int64(0)
	for n := range uint64(250) { // 40 MB more, all garbage at once
		tx := log.NewPlace(id(log.Term(), n+101))
		force(t, log, tx, append(large(tx, 40), completed(tx))...)
		written += live / 100
		require.Less(t, memory.Bytes(), int(3*live))
	}
	require.Positive(t, log.Stats().Carried)
	require.LessOrEqual(t, log.Stats().Carried*live/100, written, "as much as was written, at most")
	// One record takes a little less than those it replaces.
	require.InEpsilon(t, live, log.Stats().LiveBytes, 0.02)
	for _, tx := range stuck {
		force(t, log, tx, completed(tx))
	}
	require.Zero(t, log.Stats().LiveBytes)
}

// A record that comes after the end, even after the outcome was forgotten, keeps
// nothing alive.
func TestLateRecordsPinNothing(t *testing.T) {
	config := config
	config.Retention = -1
	memory := waltest.NewMemory()
	log, _ := open(t, memory, config)
	late := func(tx *wal.Place) {
		force(t, log, tx, record.Heuristic{Tx: tx.ID(), Outcome: participant.OutcomeHeuristicHazard, Reason: "late"})
	}
	first := log.NewPlace(id(log.Term(), 1))
	force(t, log, first, begun(first), decided(first), completed(first))
	late(first)
	for n := range uint64(2 * group) {
		finish(t, log, n+2)
	}
	require.Equal(t, wal.AbsentForgotten, log.Absent(first.ID()))
	late(first)
	require.Zero(t, log.Stats().LiveBytes)
	for n := range uint64(2 * group) {
		finish(t, log, n+2*group+2)
	}
	require.Less(t, log.Stats().Segments, group+1)
	require.NoError(t, log.Close(t.Context()))
	_, inheritance := open(t, memory, config)
	require.Empty(t, inheritance)
}

// R8, R12: a completion that is dated in the future, because the clock was set back
// since, is kept for as long as any other from the time that is noticed.
func TestAClockSetBackDoesNotPinTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := config
		config.Retention = time.Hour
		config.RetainBytes = 64 << 10
		config.RetainAtLeast = time.Minute
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		tx := log.NewPlace(id(log.Term(), 1))
		force(t, log, tx, begun(tx), decided(tx), record.Completed{Tx: tx.ID(), At: time.Now().AddDate(1, 0, 0)})
		for n := range uint64(5000) {
			finish(t, log, n+2)
			time.Sleep(time.Second) // fake time
		}
		require.Less(t, memory.Bytes(), 3*64<<10)
		require.NoError(t, log.Close(t.Context()))
	})
}
