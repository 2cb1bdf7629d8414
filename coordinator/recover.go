package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// recovering is what Open found in doubt and is not finished yet.
type recovering struct {
	mu   sync.Mutex
	left map[participant.TxID]struct{}
	done chan struct{} // closed when left is empty
	// blocked is closed when safe mode is entered.
	blocked chan struct{}
	// unlisted is the number of participants whose first list is not read yet, of
	// those registered at Open; listed is closed when there is none.
	unlisted int
	listed   chan struct{}
	// patience is until when what rests on absence waits for all of them.
	patience time.Time
	// warned are the foreign terms that were reported.
	warned map[foreignTerm]struct{}
}

// foreignTerm is a term that a participant lists and the log does not.
type foreignTerm struct {
	participant string
	term        participant.Term
}

// planRecovery is called before anybody else knows of the coordinator.
func (d *DTM) planRecovery(inherited []wal.Inherited) recovery.Plan {
	states := make([]*record.State, len(inherited))
	for i := range inherited {
		states[i] = inherited[i].State
	}
	plan := recovery.NewPlan(states)
	r := &d.recovering
	r.left = make(map[participant.TxID]struct{}, plan.InDoubt())
	for _, s := range slices.Concat(plan.Resend, plan.RollBack, plan.Ask) {
		r.left[s.Tx] = struct{}{}
	}
	r.done, r.blocked = make(chan struct{}), make(chan struct{})
	r.warned, r.listed = make(map[foreignTerm]struct{}), make(chan struct{})
	r.patience = time.Now().Add(d.config.CallTimeout)
	for _, p := range d.registry.All() {
		if p.Lister != nil {
			r.unlisted++
		}
	}
	if r.unlisted == 0 {
		close(r.listed)
	}
	if len(r.left) == 0 {
		close(r.done)
	}
	return plan
}

func (r *recovering) finished(t *transaction) {
	select {
	case <-r.done:
		return // live transactions don't wait for each other here
	default:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.left[t.id]; !ok {
		return
	}
	if delete(r.left, t.id); len(r.left) == 0 {
		close(r.done)
	}
}

// firstListed notes that a participant registered at Open was listed once.
func (r *recovering) firstListed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unlisted--; r.unlisted == 0 {
		close(r.listed)
	}
}

// awaitLists waits until every participant registered at Open was listed once: before
// that, what the log does not hold may be what an old log lost (R10).
func (d *DTM) awaitLists(ctx context.Context) error {
	select {
	case <-d.recovering.listed:
		return nil
	default:
	}
	timer := time.NewTimer(d.config.Timeout)
	defer timer.Stop()
	select {
	case <-d.recovering.listed:
		return nil
	case <-d.recovering.blocked:
		return d.safeModeError()
	case <-d.ctx.Done():
		return d.Err()
	case <-ctx.Done():
	case <-timer.C:
	}
	return fmt.Errorf("%w: not every participant could be listed since the start", ErrOutcomeUnknown)
}

// WaitRecovered waits until everything that Open found in doubt has ended. Orphans
// are another matter; see Orphans. It returns ErrSafeMode if the log proved to be
// too old, whether or not something is left; what ended the coordinator, if that
// came first; and ctx's error with the number of transactions left and the
// participants they lack.
func (d *DTM) WaitRecovered(ctx context.Context) error {
	select {
	case <-d.recovering.done:
	case <-d.recovering.blocked:
	case <-d.ctx.Done():
	case <-ctx.Done():
	}
	// Several may be true.
	switch {
	case d.safeMode.Load() != nil:
		return d.safeModeError()
	case d.recovering.ended():
		return nil
	case d.ctx.Err() != nil:
		return d.Err()
	}
	return fmt.Errorf("%s: %w", d.recovering.describe(d.missing()), context.Cause(ctx))
}

func (r *recovering) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.left) == 0
}

func (r *recovering) describe(missing []string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := fmt.Sprintf("%d transactions of former coordinators are still in doubt", len(r.left))
	if len(missing) > 0 {
		s += fmt.Sprintf(" (not registered: %s)", strings.Join(missing, ", "))
	}
	return s
}

// missing names the participants that nobody has registered.
func (d *DTM) missing() (names []string) {
	for _, e := range d.allEndpoints() {
		e.mu.Lock()
		if e.registered == nil {
			names = append(names, e.name)
		}
		e.mu.Unlock()
	}
	slices.Sort(names)
	return names
}

// recover carries out the plan for what Open found (R11), in the background.
func (d *DTM) recover(plan recovery.Plan) {
	d.config.Trace.inherited(plan)
	if plan.InDoubt() > 0 {
		d.logger.Info("finishing what former coordinators left in doubt",
			zap.Int("told_again", len(plan.Resend)), zap.Int("rolled_back", len(plan.RollBack)), zap.Int("asked", len(plan.Ask)))
	}
	free := d.holdForLists(plan)
	d.goroutines.add()
	go func() {
		defer d.goroutines.done()
		for _, s := range plan.Resend { // R10: a logged decision may go at once
			d.resume(d.table.get(s.Tx))
		}
		for _, t := range free {
			d.resumePresumed(t)
		}
	}()
	for _, p := range d.registry.All() {
		d.goroutines.add()
		go d.serveParticipant(d.endpoint(p.Name()), p, d.recovering.firstListed)
	}
}

// holdForLists lets the transactions that rest on absence wait until rollbacks by absence
// may go to the first of their participants (R10). One without branches may have had some
// in a newer log: it waits for the first participant of all. It returns those that
// nobody's list could say more about.
func (d *DTM) holdForLists(plan recovery.Plan) (free []*transaction) {
	var listed []*endpoint
	for _, p := range d.registry.All() {
		if p.Lister != nil {
			listed = append(listed, d.endpoint(p.Name()))
		}
	}
	for _, states := range [][]*record.State{plan.RollBack, plan.Ask} {
		for _, s := range states {
			t := d.table.get(s.Tx)
			for _, b := range t.branches {
				b.endpoint.awaitingList = append(b.endpoint.awaitingList, t)
			}
			switch {
			case len(t.branches) > 0:
			case len(listed) == 0:
				free = append(free, t)
			default:
				for _, e := range listed {
					e.awaitingList = append(e.awaitingList, t)
				}
			}
		}
	}
	return free
}

func (d *DTM) resume(t *transaction) { d.drive(t, protocol.Resumed()) }

// serveParticipant lets a participant that is new in this run have what waits for
// its list, and then sweeps it for orphans every SweepInterval. Each participant has
// its own goroutine for it: one whose list hangs delays no other (R6). If it can be
// listed, firstListed is called when that was done once.
func (d *DTM) serveParticipant(e *endpoint, p *participant.Registered, firstListed func()) {
	defer d.goroutines.done()
	if p.Lister != nil {
		if !d.readFirstList(p) {
			return
		}
		firstListed()
	}
	if !d.awaitOtherLists() {
		return
	}
	for _, t := range e.allowPresumed() {
		d.resumePresumed(t)
	}
	if p.Lister == nil {
		return
	}
	s := sweeper{d: d, p: p}
	ticker := time.NewTicker(d.config.SweepInterval)
	defer ticker.Stop()
	for {
		s.sweep()
		select {
		case <-ticker.C:
		case <-d.ctx.Done():
			return
		}
	}
}

// readFirstList reads the participant's list: before that no rollback by absence goes
// to it (R10). A participant that does not answer is asked again until it does. It
// returns false if the coordinator ends first.
func (d *DTM) readFirstList(p *participant.Registered) bool {
	for failures := 0; ; failures++ {
		listing, err := d.list(d.ctx, p)
		if err == nil {
			d.checkForOldLog(p.Name(), listing)
			return true
		}
		if failures == 0 {
			d.logger.Warn("participant can't be listed; what rests on its list waits", zap.String("participant", p.Name()), zap.Error(err))
		}
		if !d.pause(d.backoff(failures)) {
			return false
		}
	}
}

// awaitOtherLists waits until every participant registered at Open was listed once: the
// proof that the log is old may be in the list that comes last (R10). One that can't
// be listed holds up the others for no longer than a call may take (R6). It returns false
// if the coordinator ends first.
func (d *DTM) awaitOtherLists() bool {
	timer := time.NewTimer(time.Until(d.recovering.patience))
	defer timer.Stop()
	select {
	case <-d.recovering.listed:
	case <-d.recovering.blocked:
	case <-timer.C:
	case <-d.ctx.Done():
		return false
	}
	return true
}

// resumePresumed lets go on what rests on absence.
func (d *DTM) resumePresumed(t *transaction) {
	if d.safeMode.Load() == nil { // R10: one proof anywhere, at any time
		d.resume(t)
	}
}

// list reads what a participant has of the domain. What else it returns is none of
// ours to judge (R10).
func (d *DTM) list(ctx context.Context, p *participant.Registered) (l participant.Listing, err error) {
	err = d.ask(ctx, func(ctx context.Context) (err error) {
		l, err = p.Lister.List(ctx, d.config.Domain)
		return err
	})
	l.Prepared = slices.DeleteFunc(slices.Clone(l.Prepared), func(b participant.Branch) bool {
		return b.Domain != d.config.Domain || b.Number < 0 || b.Number >= participant.MaxBranches
	})
	return l, err
}

// ask makes a call of a participant that is about no branch.
func (d *DTM) ask(ctx context.Context, call func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.CallTimeout)
	defer cancel()
	stop := context.AfterFunc(d.ctx, cancel) //nolint:contextcheck // what a caller of Orphans waits for ends with the coordinator, too
	defer stop()
	done := make(chan struct{})
	go func() { // its own goroutine, which the participant may end (runtime.Goexit)
		defer close(done)
		err = errExited
		err = guard(func() error { return call(ctx) })
	}()
	<-done
	return err
}

// checkForOldLog looks in a participant's list for a proof that the log is older
// than what the participant saw (R10), and for what only looks like it.
func (d *DTM) checkForOldLog(name string, l participant.Listing) {
	marks := d.marks()
	for _, term := range recovery.ForeignTerms(l, marks) {
		d.warnOfForeignTerm(name, term)
	}
	if proof := recovery.ProofOfOldLog(name, l, marks, d.accepted); proof != "" {
		d.enterSafeMode(proof)
	}
}

// maxForeignTerms bounds the terms that are remembered as reported (R12).
const maxForeignTerms = 1000

// warnOfForeignTerm reports a term once. It proves nothing: another coordinator may
// serve the domain with a log of its own.
func (d *DTM) warnOfForeignTerm(name string, term participant.Term) {
	d.recovering.mu.Lock()
	key := foreignTerm{name, term}
	_, warned := d.recovering.warned[key]
	if warned = warned || len(d.recovering.warned) >= maxForeignTerms; !warned {
		d.recovering.warned[key] = struct{}{}
	}
	d.recovering.mu.Unlock()
	if !warned {
		d.logger.Warn("participant knows a term of the domain that was never opened in this log: if no other log serves the domain, this one was restored from a backup older than its last start",
			zap.String("participant", name), zap.Stringer("term", term))
	}
}

// marks returns what the log says of its terms now.
func (d *DTM) marks() recovery.Marks {
	marks := make(recovery.Marks)
	for _, m := range d.log.Terms() {
		marks[m.Term] = m
	}
	return marks
}
