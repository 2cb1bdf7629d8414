package coordinator

import (
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// requests finds transactions by the request id they were begun with, as long as
// the table holds them.
type requests struct {
	mu   sync.Mutex
	byID map[string]participant.TxID
}

// requestKey returns under what a transaction's request id is known; "" if it has
// none. Owners don't share request ids.
func requestKey(a record.Attributes) string {
	if a[record.AttributeRequestID] == "" {
		return ""
	}
	return a[record.AttributeOwner] + "\x00" + a[record.AttributeRequestID]
}

// begin returns the transaction that was begun with this key, else a new one.
func (r *requests) begin(key string, table *table, begin func() (*transaction, error)) (*transaction, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id, ok := r.byID[key]; ok {
		if t := table.get(id); t != nil {
			return t, nil
		}
	}
	t, err := begin()
	if err != nil {
		return nil, err
	}
	r.put(key, t.id)
	return t, nil
}

// put is called with the mutex held, or before anybody else knows of r.
func (r *requests) put(key string, id participant.TxID) {
	if r.byID == nil {
		r.byID = make(map[string]participant.TxID)
	}
	r.byID[key] = id
}

func (r *requests) remove(id participant.TxID, attributes record.Attributes) {
	key := requestKey(attributes)
	if key == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[key] == id {
		delete(r.byID, key)
	}
}
