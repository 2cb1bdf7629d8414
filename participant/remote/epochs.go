package remote

import (
	"fmt"
	"sync"

	"github.com/assent-tm/assent/participant"
)

// maxTerms is how many terms' epochs are remembered (R12): some 500 KB of them.
const maxTerms = 10_000

// epochs refuses calls of a coordinator that another one has taken over from (R9). It
// remembers as long as the process lives and, beyond maxTerms, forgets the term that it
// has known for longest: whoever has to know for longer keeps epochs with the branches.
// Safe for concurrent use; the zero value is empty.
type epochs struct {
	mu      sync.Mutex
	highest map[participant.Term]uint64
	// known are the terms in the order in which they came, next the one to be forgotten
	// for the next that comes, once there are maxTerms.
	known []participant.Term
	next  int
}

// admit returns an ErrStaleEpoch if a call with a higher epoch was admitted before.
func (e *epochs) admit(b participant.Branch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	highest, known := e.highest[b.Tx.Term]
	switch {
	case b.Epoch < highest:
		return fmt.Errorf("%w: epoch %d, seen %d", participant.ErrStaleEpoch, b.Epoch, highest)
	case !known:
		e.remember(b.Tx.Term)
	}
	e.highest[b.Tx.Term] = b.Epoch
	return nil
}

func (e *epochs) remember(term participant.Term) {
	if e.highest == nil {
		e.highest = map[participant.Term]uint64{}
	}
	if len(e.known) < maxTerms {
		e.known = append(e.known, term)
		return
	}
	delete(e.highest, e.known[e.next])
	e.known[e.next] = term
	e.next = (e.next + 1) % maxTerms
}
