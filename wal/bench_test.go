package wal_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// BenchmarkForcedAppend is the log's share of a transaction: lazy begin and
// enlists, two forced appends, a lazy completion.
func BenchmarkForcedAppend(b *testing.B) {
	for _, clients := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			config := config
			config.Retention = -1
			log, _ := open(b, waltest.NewMemory(), config)
			var n, failed atomic.Int64
			var all sync.WaitGroup
			b.ReportAllocs()
			for range clients {
				all.Go(func() {
					for {
						i := n.Add(1)
						if i > int64(b.N) {
							return
						}
						if !transact(log, uint64(i)) {
							failed.Add(1)
							return
						}
					}
				})
			}
			all.Wait()
			require.Zero(b, failed.Load())
			stats := log.Stats()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
			b.ReportMetric(float64(stats.Records)/float64(stats.Appends), "records/append")
		})
	}
}

func transact(log *wal.Log, n uint64) bool {
	tx := log.NewPlace(id(log.Term(), n))
	now := time.Now()
	return do(log, tx, false, record.Begun{Tx: tx.ID(), At: now, Timeout: time.Minute}) &&
		do(log, tx, false, record.Enlisted{Tx: tx.ID(), Number: 0, Participant: "bank_a"}) &&
		do(log, tx, false, record.Enlisted{Tx: tx.ID(), Number: 1, Participant: "bank_b"}) &&
		do(log, tx, true, record.Preparing{Tx: tx.ID()}) &&
		do(log, tx, true, record.Decided{Tx: tx.ID(), Decision: record.DecisionCommit, By: -1}) &&
		do(log, tx, false, record.Completed{Tx: tx.ID(), At: now})
}

func do(log *wal.Log, tx *wal.Place, forced bool, r record.Record) bool {
	b, err := log.Append(tx, forced, r)
	if err != nil || !forced {
		return err == nil
	}
	return b.Wait() == nil
}

// BenchmarkLiveTransaction reports what the log keeps in memory for a transaction
// with two branches.
func BenchmarkLiveTransaction(b *testing.B) {
	const count = 100_000
	kept := make([]*wal.Place, count)
	for b.Loop() {
		before := heap()
		memory := waltest.NewMemory()
		log, _ := open(b, memory, config)
		var last *wal.Batch
		for n := range kept {
			tx := log.NewPlace(id(log.Term(), uint64(n+1)))
			kept[n] = tx
			appended(b, log, tx, false, begun(tx))
			for i := range 2 {
				last = appended(b, log, tx, n == count-1, record.Enlisted{Tx: tx.ID(), Number: i, Participant: "bank_a", Data: []byte("account 17")})
			}
		}
		<-last.Done()
		b.ReportMetric(float64(heap()-before-int64(memory.Bytes()))/count, "B/tx")
		require.NoError(b, log.Close(b.Context()))
	}
	runtime.KeepAlive(kept)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkOpen reports what taking over a live transaction costs.
func BenchmarkOpen(b *testing.B) {
	const count = 20_000
	memory := waltest.NewMemory()
	log, _ := open(b, memory, config)
	for n := range uint64(count) {
		tx := log.NewPlace(id(log.Term(), n+1))
		appended(b, log, tx, n%100 == 0, begun(tx),
			record.Enlisted{Tx: tx.ID(), Number: 0, Participant: "bank_a"}, record.Enlisted{Tx: tx.ID(), Number: 1, Participant: "bank_b"})
	}
	require.NoError(b, log.Close(b.Context()))
	for b.Loop() {
		log, inheritance := open(b, memory.Clone(), config)
		require.Len(b, inheritance, count)
		require.NoError(b, log.Close(b.Context()))
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/count, "µs/tx")
}
