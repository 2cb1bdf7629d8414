package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// Open opens the log, takes over what former coordinators left in it, and returns
// a coordinator that accepts new work. All ids, outcomes and request ids of the
// log are known when it returns. What was left in doubt is finished in the
// background; WaitRecovered waits for it. Of a log in quarantine the coordinator is
// in safe mode from the start; see SafeMode.
//
// Errors: those of Config, of wal.Open (wal.ErrDamaged, wal.ErrForeign,
// wal.ErrNewer, wal.ErrFull, wal.ErrTermsExhausted), participant.ErrNameTaken, and participant.ErrConfig from a
// participant that checks its service.
func Open(ctx context.Context, config Config) (*DTM, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("open coordinator: %w", err)
	}
	d := &DTM{
		config: config, logger: config.Logger, table: newTable(),
		endpoints: make(map[string]*endpoint), failed: make(chan struct{}), ending: make(chan struct{}),
		operator: make(chan struct{}, 1), started: time.Now(),
	}
	d.forced.d, d.completions.d = d, d
	d.underway.whole, d.forgetting.whole = &d.goroutines, &d.goroutines
	d.deadlines.start, d.deadlines.wake = time.Now(), d.timeUp
	d.registry.Max = config.MaxParticipants
	for _, p := range config.Participants {
		if err := d.preregister(ctx, p); err != nil {
			return nil, fmt.Errorf("open coordinator of domain %s: %w", config.Domain, err)
		}
	}
	log, inherited, err := wal.Open(ctx, config.Store, wal.Config{
		Domain: config.Domain, Owner: config.Owner,
		Retention: config.Retention, RetainBytes: config.RetainBytes, RetainAtLeast: minRetentions * config.CallTimeout, // R13
		Forgotten: d.forgotten,
	})
	if err != nil {
		return nil, fmt.Errorf("open coordinator: %w", err)
	}
	d.log = log
	d.warnOfTerms(log.Stats())
	d.ctx, d.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	d.inherit(inherited)
	plan := d.planRecovery(inherited)
	d.heedWords(log.Words())
	d.goroutines.add()
	go d.watchLog()
	d.recover(plan)
	return d, nil
}

// preregister registers a participant before recovery begins, and asks it whether
// its service can take part at all.
func (d *DTM) preregister(ctx context.Context, p participant.Participant) error {
	registered, added, err := d.registry.Register(p)
	if err != nil || !added {
		return err
	}
	d.endpoint(registered.Name()).register(registered)
	if registered.Checker == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.CallTimeout)
	defer cancel()
	err = guard(func() error { return registered.Checker.Check(ctx) })
	if errors.Is(err, participant.ErrConfig) {
		return fmt.Errorf("check participant %q: %w", registered.Name(), err)
	}
	if err != nil {
		d.logger.Warn("participant could not be checked", zap.String("participant", registered.Name()), zap.Error(err))
	}
	return nil
}

// warnOfTerms tells, long before, that the log can't be opened for ever (R12).
func (d *DTM) warnOfTerms(s wal.Stats) {
	if s.TermsUsed > 0.5 {
		d.logger.Warn("log was opened very often: the room for its list is more than half used; begin a new log once nothing is in doubt, for from 75 percent on no transaction begins",
			zap.Int("opened", s.Terms), zap.Float64("used", s.TermsUsed))
	}
}

// inherit puts what the log held into the table.
func (d *DTM) inherit(transactions []wal.Inherited) {
	for _, inherited := range transactions {
		s := inherited.State
		t := &transaction{
			id: s.Tx, epoch: max(inherited.Epoch, d.log.Epoch()), place: inherited.Place, machine: protocol.Resume(s),
			begun: record.Begun{Tx: s.Tx, At: s.At, Timeout: s.Timeout, Attributes: s.Attributes},
		}
		t.paused.Store(t.machine.Paused())
		for _, b := range s.Branches {
			t.branches = append(t.branches, branch{endpoint: d.endpoint(b.Participant), data: b.Data})
		}
		if t.settled = s.Decision.Valid(); t.settled {
			t.decided.release()
		}
		d.table.put(t)
		if t.machine.Phase() == protocol.Done {
			t.finished.release()
			d.table.retire(t)
		}
		if key := keyOf(t.begun.Attributes); key.id != "" {
			d.requests.put(key, t.id)
		}
	}
}

// forgotten drops outcomes that the log has dropped (R13).
func (d *DTM) forgotten(ids []participant.TxID) {
	for _, id := range ids {
		d.requests.remove(id, d.table.remove(id))
	}
}

// watchLog halts the coordinator when its log fails: nothing more is sent (R5).
func (d *DTM) watchLog() {
	defer d.goroutines.done()
	select {
	case <-d.log.Failed():
	case <-d.ctx.Done():
		return
	}
	d.halted.Store(true)
	failure, err := d.log.Err(), d.Err()
	d.logger.Error("the log failed: nothing more is sent; close the coordinator and open it anew", zap.Error(err))
	close(d.failed)
	d.table.eachLive(func(t *transaction) bool {
		t.mu.Lock()
		if t.failure == nil {
			t.failure = failure
		}
		t.mu.Unlock()
		d.drive(t, protocol.LogFailed())
		return true
	})
	d.cancel(err)
}
