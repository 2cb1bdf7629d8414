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

// atTheEdge is a log with an outcome whose retention nearly ends.
type atTheEdge struct {
	memory *waltest.Memory
	log    *wal.Log
	first  participant.TxID // the oldest outcome
	others []participant.TxID
}

// newEdge leaves a first outcome and two more a second later. Whatever else the
// log's first segment held is gone by then.
func newEdge(t *testing.T, config wal.Config) *atTheEdge {
	e := &atTheEdge{memory: waltest.NewMemory()}
	e.memory.Random = func() uint32 { return 1 } // the same bytes every time
	e.log, _ = open(t, e.memory, config)
	e.first = finish(t, e.log, 10)
	time.Sleep(time.Second)
	e.others = []participant.TxID{finish(t, e.log, 20), finish(t, e.log, 30)}
	return e
}

// R13: an outcome is there until the very end of its retention, and forgotten from
// then on: by a log that runs as by one that is opened.
func TestR13OutcomesAreKeptToTheEdge(t *testing.T) {
	const bit = time.Millisecond // what a record tells apart
	short := func(c *wal.Config) { c.RetainBytes, c.RetainAtLeast = 1, 100*time.Second }
	for name, c := range map[string]struct {
		change func(*wal.Config)
		edge   time.Duration
	}{
		"1 h":                             {func(*wal.Config) {}, time.Hour},
		"64 MiB are not reached":          {func(c *wal.Config) { c.RetainAtLeast = 100 * time.Second }, time.Hour},
		"bytes are short":                 {short, 100 * time.Second},
		"at least may exceed 1 h":         {func(c *wal.Config) { short(c); c.RetainAtLeast = 2 * time.Hour }, time.Hour},
		"as long as at least, not longer": {func(c *wal.Config) { short(c); c.Retention = c.RetainAtLeast }, 100 * time.Second},
	} {
		config := config.DropAtOnce()
		c.change(&config)
		for _, age := range []time.Duration{c.edge - bit, c.edge, c.edge + bit} {
			kept := age < c.edge
			t.Run(name+", after "+age.String(), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					e := newEdge(t, config)
					time.Sleep(age - time.Second)
					live := e.log.NewPlace(id(e.log.Term(), 40))
					force(t, e.log, live, begun(live)) // goes with what is to go
					e.check(t, e.log, kept)
					require.NoError(t, e.log.Close(t.Context()))
				})
				synctest.Test(t, func(t *testing.T) {
					e := newEdge(t, config)
					live := e.log.NewPlace(id(e.log.Term(), 5)) // below the mark that is to come
					force(t, e.log, live, begun(live))
					require.NoError(t, e.log.Close(t.Context()))
					time.Sleep(age - time.Second)
					log, inherited := open(t, e.memory, config)
					require.Equal(t, live.ID(), inherited[0].State.Tx, "what is undecided has no retention")
					require.Equal(t, kept, inherited[1].State.Tx == e.first)
					e.check(t, log, kept)
					require.NoError(t, log.Close(t.Context()))
				})
			})
		}
	}
}

// check checks what is said of the first outcome, and of what is around it.
func (e *atTheEdge) check(t *testing.T, log *wal.Log, kept bool) {
	mark := termOf(log, e.first.Term).Mark
	if kept {
		require.Zero(t, mark)
		return
	}
	require.Equal(t, e.first.UUID, mark)
	for n, want := range map[uint64]wal.Absence{
		9: wal.AbsentForgotten, 10: wal.AbsentForgotten, 11: wal.AbsentUndecided,
	} {
		require.Equal(t, want, log.Absent(id(e.first.Term, n)), n)
	}
}

// R13: as many bytes as are allowed stay; for one byte more the oldest outcome goes,
// and no other.
func TestR13OutcomesAreKeptToTheLastByte(t *testing.T) {
	config := config.DropAtOnce()
	config.RetainAtLeast = time.Minute
	sizes := func(t *testing.T) (running, opened int64) {
		e := newEdge(t, config)
		defer func() { require.NoError(t, e.log.Close(t.Context())) }()
		for _, state := range statesOf(t, e.memory.Clone(), config) {
			frame, err := record.Append(nil, record.Carried{State: *state})
			require.NoError(t, err)
			opened += int64(len(frame))
		}
		return e.log.Stats().Bytes, opened
	}
	for name, less := range map[string]int64{"all fits": 0, "a byte too much": 1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := config
				config.RetainBytes, _ = sizes(t)
				config.RetainBytes -= less
				e := newEdge(t, config)
				time.Sleep(time.Minute)
				finish(t, e.log, 40)
				e.check(t, e.log, less == 0)
				require.NoError(t, e.log.Close(t.Context()))
			})
			synctest.Test(t, func(t *testing.T) {
				e := newEdge(t, config)
				require.NoError(t, e.log.Close(t.Context()))
				time.Sleep(time.Minute)
				config := config
				_, config.RetainBytes = sizes(t)
				config.RetainBytes -= less
				log, inherited := open(t, e.memory, config)
				require.Len(t, inherited, 3-int(less))
				e.check(t, log, less == 0)
				require.NoError(t, log.Close(t.Context()))
			})
		})
	}
}
