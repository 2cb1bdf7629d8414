package coordinator

import (
	"sync"

	"github.com/assent-tm/assent/participant"
)

const shardCount = 64

// table holds the transactions the coordinator knows, live and retained, by id.
// It is split so that clients don't wait for each other.
type table struct {
	shards [shardCount]shard
}

type shard struct {
	mu   sync.RWMutex
	byID map[participant.TxID]*transaction
}

func newTable() *table {
	t := &table{}
	for i := range t.shards {
		t.shards[i].byID = make(map[participant.TxID]*transaction)
	}
	return t
}

// shard is chosen by the last byte of the id: a version 7 UUID begins with the
// time and ends with random bits.
func (t *table) shard(id participant.TxID) *shard {
	return &t.shards[id.UUID[len(id.UUID)-1]%shardCount]
}

func (t *table) get(id participant.TxID) *transaction {
	s := t.shard(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}

func (t *table) put(tx *transaction) {
	s := t.shard(tx.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byID[tx.id] = tx
}

func (t *table) remove(id participant.TxID) *transaction {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	tx := s.byID[id]
	delete(s.byID, id)
	return tx
}

// each calls fn for every transaction until fn returns false. Transactions that
// come or go meanwhile may be missed; fn is called without a lock.
func (t *table) each(fn func(*transaction) bool) {
	var batch []*transaction
	for i := range t.shards {
		s := &t.shards[i]
		batch = batch[:0]
		s.mu.RLock()
		for _, tx := range s.byID {
			batch = append(batch, tx)
		}
		s.mu.RUnlock()
		for _, tx := range batch {
			if !fn(tx) {
				return
			}
		}
	}
}
