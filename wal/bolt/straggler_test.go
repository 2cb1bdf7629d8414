package bolt

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// growthSteps is how often the file may grow, however large a step is.
const growthSteps = 2

// R12: a million transactions, of which each hundredth is stuck for ever, leave a
// file of two growth steps, and all of those that are stuck are found again. A tenth
// of them in a short run, and with SingleSync.
func TestR12StuckTransactionsDoNotGrowTheFile(t *testing.T) {
	transactions := 1_000_000
	if testing.Short() || smallMap.SingleSync {
		transactions /= 10
	}
	const stuckEach, clients = 100, 512

	path := filepath.Join(t.TempDir(), "log")
	config := wal.Config{Domain: "orders", Retention: -1}
	s, err := Open(path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	log, _, err := wal.Open(t.Context(), s, config)
	require.NoError(t, err)
	var sizes sizesSeen
	sizes.look(t, s)

	var n atomic.Uint64
	var all sync.WaitGroup
	failed := make(chan error, clients)
	for range clients {
		all.Go(func() {
			for {
				i := n.Add(1)
				if i > uint64(transactions) {
					return
				}
				if err := leave(log, i, i%stuckEach == 0); err != nil {
					failed <- err
					return
				}
				if i%1000 == 0 {
					sizes.look(t, s)
				}
			}
		})
	}
	all.Wait()
	close(failed)
	require.NoError(t, <-failed)
	sizes.look(t, s)
	stats := log.Stats()
	t.Logf("%d transactions, %d stuck; file sizes %v, log of %d bytes, %d carried, %d records in %d appends",
		transactions, transactions/stuckEach, sizes.seen, stats.Bytes, stats.Carried, stats.Records, stats.Appends)
	require.LessOrEqual(t, len(sizes.seen), 1+growthSteps)
	require.GreaterOrEqual(t, stats.Carried, int64(transactions/stuckEach/2), "else nothing was shown")
	require.NoError(t, log.Close(t.Context()))

	log, inherited, err := wal.Open(t.Context(), s, config)
	require.NoError(t, err)
	require.Len(t, inherited, transactions/stuckEach)
	for i, in := range inherited {
		require.Equal(t, uint64(i+1)*stuckEach, binary.BigEndian.Uint64(in.State.Tx.UUID[:]))
		require.Equal(t, "bank_b", in.State.Branches[1].Participant)
		require.True(t, in.State.Preparing)
	}
	require.NoError(t, log.Close(t.Context()))
	sizes.look(t, s)
	require.LessOrEqual(t, len(sizes.seen), 1+growthSteps, "also after all was taken over")
}

// leave leaves a transaction's records, of a stuck one not to the end.
func leave(log *wal.Log, n uint64, stuck bool) error {
	tx := participant.TxID{Term: log.Term()}
	binary.BigEndian.PutUint64(tx.UUID[:], n)
	place, at := log.NewPlace(tx), time.Now()
	batch, err := log.Append(
		place, true,
		record.Begun{Tx: tx, At: at, Timeout: time.Minute},
		record.Enlisted{Tx: tx, Number: 0, Participant: "bank_a"},
		record.Enlisted{Tx: tx, Number: 1, Participant: "bank_b"},
		record.Preparing{Tx: tx},
	)
	if err == nil && !stuck {
		<-batch.Done()
		if err = batch.Err(); err == nil {
			batch, err = log.Append(place, true, record.Decided{Tx: tx, Decision: record.DecisionCommit, By: record.NoBranch})
		}
		if err == nil {
			_, err = log.Append(place, false, record.Completed{Tx: tx, At: at})
		}
	}
	if err != nil {
		return fmt.Errorf("transaction %d: %w", n, err)
	}
	<-batch.Done()
	return batch.Err()
}

// sizesSeen are the sizes that the file had, each one once.
type sizesSeen struct {
	mu   sync.Mutex
	seen []int64
}

func (s *sizesSeen) look(t *testing.T, store *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats, err := store.Stats()
	if err != nil {
		t.Error(err)
		return
	}
	if n := len(s.seen); n == 0 || s.seen[n-1] != stats.FileBytes {
		s.seen = append(s.seen, stats.FileBytes)
	}
}

// R9, R10: after 300 starts (100 in a short run), half of them after a crash and so
// on a copy, the file holds one term and lists all, and is no larger than at first.
func TestR10ManyRestartsLeaveOneTerm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	config := wal.Config{Domain: "orders"}
	var opened []participant.Term
	inDoubt := 0
	var largest, later int64
	restarts := 300
	if testing.Short() {
		restarts = 100
	}
	for restart := range restarts + 1 {
		s := open(t, path)
		log, inherited, err := wal.Open(t.Context(), s, config)
		require.NoError(t, err)
		require.Len(t, inherited, inDoubt)
		opened = append(opened, log.Term())
		var listed []participant.Term
		for _, m := range log.Terms() {
			listed = append(listed, m.Term)
		}
		require.Equal(t, opened, listed)
		if restart < 10 {
			require.NoError(t, leave(log, 1, true))
			inDoubt++
		}
		stats, err := s.Stats()
		require.NoError(t, err)
		if restart < 50 {
			largest = max(largest, stats.FileBytes)
		} else {
			later = max(later, stats.FileBytes)
		}
		if restart%2 == 0 {
			require.NoError(t, log.Close(t.Context()))
			require.NoError(t, s.Close())
		} else {
			crash(t, s)
			require.Error(t, log.Close(t.Context()))
		}
	}
	require.Equal(t, 10, inDoubt)
	if smallMap.SingleSync { // a few pages more: it may take its first step of growth later
		largest = max(largest, int64(smallMap.MapSize))
	}
	require.LessOrEqual(t, later, largest)
	s := open(t, path)
	terms, _, err := s.Orphans(t.Context())
	require.NoError(t, err)
	require.Equal(t, opened[restarts:], terms)
	require.NoError(t, s.Close())
}
