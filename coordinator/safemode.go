package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/wal/record"
)

// SafeMode reports whether the coordinator is in safe mode, and why (R10): a
// participant proved that the log is older than what it was told, or an operator put
// the log into quarantine, as `assent log restore` does. In safe mode Begin, Enlist,
// Commit of undecided transactions, and Rollback of those that a former coordinator
// left undecided return ErrSafeMode; decisions that the log holds are delivered;
// nothing is rolled back for want of a decision, because the decision may be what was
// lost.
//
// It ends when the log is accepted, by Accept or `assent log accept`, and opened
// again, or with another log.
func (d *DTM) SafeMode() (why string, on bool) {
	if p := d.safeMode.Load(); p != nil {
		return *p, true
	}
	return "", false
}

// Accept records an operator's word that the log is to be used as it is, though it
// is in quarantine or proved to be old. Before that an operator compares what List
// and Orphans return with what the participants hold, and settles the difference
// there. From the next Open on:
//
//   - what participants know of transactions above the highest that the log knows, of
//     all terms that were opened before this coordinator's, proves nothing any more
//   - a prepared branch of those terms for which the log has no decision is rolled
//     back, also one whose transaction committed elsewhere after the copy was made
//   - a transaction that the log holds undecided is told as rolled back, though it may
//     have committed after the copy was made; of one that the log does not know the
//     answer is ErrForgotten
//   - branches of terms that the log never listed stay listed as foreign, and
//     untouched: they are the operator's to settle
//
// The word is durable when Accept returns nil. This coordinator stays in safe mode:
// close it, and open the log anew. An error says that there is no safe mode to end,
// or is one of wal.Log.Accept.
func (d *DTM) Accept(ctx context.Context, reason string) error {
	if !d.enter() {
		return fmt.Errorf("accept the log: %w", ErrClosed)
	}
	defer d.leave()
	if _, on := d.SafeMode(); !on {
		return errors.New("accept the log: the coordinator is not in safe mode, there is nothing to accept")
	}
	if err := d.log.Accept(ctx, reason); err != nil {
		return err
	}
	d.logger.Warn("an operator accepted the log as it is; open it anew to leave safe mode", zap.String("reason", reason))
	return nil
}

// heedWords is called before anything is told to anyone: a log in quarantine is old
// until an operator says otherwise (R10).
func (d *DTM) heedWords(w record.Words) {
	d.accepted = w.Accepted()
	if !w.Quarantined() {
		return
	}
	d.enterSafeMode(fmt.Sprintf("the log was put into quarantine on %s: %s; compare it with its participants, then end it with `assent log accept --reason` or DTM.Accept",
		w.Quarantine.At.UTC().Format(time.RFC3339), w.Quarantine.Reason))
}

// enterSafeMode is for the first reason; there is no way back in this run.
func (d *DTM) enterSafeMode(why string) {
	if !d.safeMode.CompareAndSwap(nil, &why) {
		return
	}
	close(d.recovering.blocked)
	d.logger.Error("safe mode: logged decisions are delivered, nothing is begun, and nothing is rolled back by absence, until an operator has compared log and participants", zap.String("why", why))
	d.config.Trace.safeMode(why)
}
