package coordinator

import (
	"fmt"
	"sync"

	"github.com/assent-tm/assent/wal/record"
)

// owners counts the undecided transactions of each owner, so that one can't take all
// of Config.MaxOpen (R12). It counts nothing without Config.MaxOpenPerOwner.
type owners struct {
	mu   sync.Mutex
	open map[string]int
}

// count counts one more of the owner, unless there are max.
func (o *owners) count(owner string, max int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open[owner] >= max {
		return false
	}
	if o.open == nil {
		o.open = make(map[string]int)
	}
	o.open[owner]++
	return true
}

func (o *owners) uncount(owner string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open[owner]--; o.open[owner] <= 0 {
		delete(o.open, owner)
	}
}

// countOpen counts an undecided transaction that is to begin, or says why there may be
// no more (R12). nil is followed by one uncountOpen.
func (d *DTM) countOpen(attributes record.Attributes) error {
	if open := d.open.Add(1); open > int64(d.config.MaxOpen) {
		d.open.Add(-1)
		return fmt.Errorf("%w: %d transactions are undecided (Config.MaxOpen)", ErrLimit, d.config.MaxOpen)
	}
	owner, max := attributes[record.AttributeOwner], d.config.MaxOpenPerOwner
	if owner != "" && max > 0 && !d.owners.count(owner, max) {
		d.open.Add(-1)
		return fmt.Errorf("%w: %d transactions of owner %q are undecided (Config.MaxOpenPerOwner)", ErrLimit, max, owner)
	}
	return nil
}

func (d *DTM) uncountOpen(attributes record.Attributes) {
	d.open.Add(-1)
	if owner := attributes[record.AttributeOwner]; owner != "" && d.config.MaxOpenPerOwner > 0 {
		d.owners.uncount(owner)
	}
}
