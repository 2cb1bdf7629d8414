package coordinator

import (
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

const shardCount = 64

// table holds the transactions the coordinator knows, by id: live ones, and what
// is retained of those that have ended. It is split so that clients don't wait for
// each other.
type table struct {
	shards [shardCount]shard
}

type shard struct {
	mu    sync.RWMutex
	live  map[participant.TxID]*transaction
	ended map[participant.TxID]retained
	like  []retainedBranch // of the last one that ended
}

func newTable() *table {
	t := &table{}
	for i := range t.shards {
		t.shards[i].live = make(map[participant.TxID]*transaction)
		t.shards[i].ended = make(map[participant.TxID]retained)
	}
	return t
}

// shard is chosen by the last byte of the id: a version 7 UUID begins with the
// time and ends with random bits.
func (t *table) shard(id participant.TxID) *shard {
	return &t.shards[id.UUID[len(id.UUID)-1]%shardCount]
}

// get returns the transaction with this id, nil if there is none. One that has
// ended is made anew of what is retained.
func (t *table) get(id participant.TxID) *transaction {
	s := t.shard(id)
	s.mu.RLock()
	tx, r := s.live[id], retained{}
	ended := false
	if tx == nil {
		r, ended = s.ended[id]
	}
	s.mu.RUnlock()
	if ended {
		return r.revive(id)
	}
	return tx
}

func (t *table) put(tx *transaction) {
	s := t.shard(tx.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[tx.id] = tx
}

// retire replaces a transaction that is done by what is retained of it, unless
// that was forgotten already.
func (t *table) retire(tx *transaction) {
	s := t.shard(tx.id)
	s.mu.RLock()
	like := s.like
	s.mu.RUnlock()
	r := tx.retain(like)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[tx.id] == tx {
		delete(s.live, tx.id)
		s.ended[tx.id] = r
		s.like = r.branches
	}
}

// remove forgets a transaction and returns the attributes it had.
func (t *table) remove(id participant.TxID) record.Attributes {
	s := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.ended[id]
	attributes := r.attributes()
	if tx := s.live[id]; tx != nil {
		attributes = tx.begun.Attributes
	}
	delete(s.live, id)
	delete(s.ended, id)
	return attributes
}

// eachLive calls fn for every transaction that has not been retired, until fn
// returns false. Transactions that come or go meanwhile may be missed; fn is called
// without a lock.
func (t *table) eachLive(fn func(*transaction) bool) {
	var batch []*transaction
	for i := range t.shards {
		s := &t.shards[i]
		batch = batch[:0]
		s.mu.RLock()
		for _, tx := range s.live {
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

// appendEnded appends the ids of all transactions that are retained.
func (t *table) appendEnded(ids []participant.TxID) []participant.TxID {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.RLock()
		for id := range s.ended {
			ids = append(ids, id)
		}
		s.mu.RUnlock()
	}
	return ids
}
