package coordinator

import (
	"context"
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// requests finds transactions by the request id they were begun with, as long as
// the table holds them.
type requests struct {
	mu    sync.Mutex
	byKey map[requestKey]*request
}

// request is a Begin with a request id; id is there once begun is closed, and zero
// if it failed.
type request struct {
	begun chan struct{}
	id    participant.TxID
}

// requestKey is under what a transaction's request id is known. Owners don't share
// request ids.
type requestKey struct{ owner, id string }

// keyOf returns the key of a transaction with these attributes; its id is "" if
// they have no request id.
func keyOf(a record.Attributes) requestKey {
	return requestKey{owner: a[record.AttributeOwner], id: a[record.AttributeRequestID]}
}

// begin returns the transaction that was begun with this key, else a new one. The
// mutex is not held while one is begun: that may wait for the log, whose writer
// may be waiting in remove.
func (r *requests) begin(ctx context.Context, key requestKey, table *table, begin func() (*transaction, error)) (*transaction, error) {
	for {
		q, first := r.join(key)
		if first {
			t, err := begin()
			r.begun(key, q, t)
			return t, err
		}
		select {
		case <-q.begun:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if t := table.get(q.id); t != nil {
			return t, nil
		}
		r.drop(key, q) // that Begin failed, or its outcome has been forgotten just now
	}
}

// join returns the request with this key, and whether the caller is the first and
// has to begin the transaction.
func (r *requests) join(key requestKey) (q *request, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q = r.byKey[key]; q != nil {
		return q, false
	}
	q = &request{begun: make(chan struct{})}
	r.set(key, q)
	return q, true
}

// begun says what became of the first Begin; t is nil if it failed.
func (r *requests) begun(key requestKey, q *request, t *transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t != nil {
		q.id = t.id
	} else if r.byKey[key] == q {
		delete(r.byKey, key)
	}
	close(q.begun)
}

// put is called before anybody else knows of r.
func (r *requests) put(key requestKey, id participant.TxID) { r.set(key, &request{opened, id}) }

// set is called with the mutex held, or before anybody else knows of r.
func (r *requests) set(key requestKey, q *request) {
	if r.byKey == nil {
		r.byKey = make(map[requestKey]*request)
	}
	r.byKey[key] = q
}

func (r *requests) drop(key requestKey, q *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKey[key] == q {
		delete(r.byKey, key)
	}
}

// remove lets go of the request id of a transaction that is forgotten.
func (r *requests) remove(id participant.TxID, attributes record.Attributes) {
	key := keyOf(attributes)
	if key.id == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.byKey[key]; q != nil && q.id == id {
		delete(r.byKey, key)
	}
}
