package wal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// maxYields bounds how often the writer lets callers add to a batch.
	maxYields = 64
	// probeEvery is after how many batches the writer yields though it expects nobody.
	probeEvery = 16
	// freeQueues is how many queues are kept for use again, of at most
	// 2*maxBatch bytes each: one is being filled while one is being written.
	freeQueues = 2

	repeatAfter   = 10 * time.Millisecond
	repeatAtMost  = time.Second
	releaseWithin = 5 * time.Second
)

// Whoever has the turn writes: the only one that uses the stream and the segments. That
// is the log's writer, or a client who is alone and writes what it waits for: to wake
// another goroutine and be woken by it costs a tenth of a commit, and far more on a
// busy machine. A turn handed on is as good as one goroutine: channel operations
// order what the one did before what the next does.

// run is the log's writer. It ends when the log is closed or has failed.
func (l *Log) run() {
	defer close(l.stopped)
	defer l.flush.Stop()
	for l.await() {
		l.turn <- struct{}{}
		l.commitDue()
		<-l.turn
	}
	// Nothing comes any more; somebody may still be writing.
	l.turn <- struct{}{}
	for l.Err() == nil {
		q := l.take()
		if q == nil || !l.commit(q) {
			break
		}
	}
	<-l.turn
}

// await waits until a queue is due. It returns false when the writer is to end.
func (l *Log) await() bool {
	for !l.due() {
		if l.refused() {
			l.turn <- struct{}{}
			l.reserve()
			<-l.turn
			continue // a client who came alone meanwhile left its batch to this turn
		}
		select {
		case <-l.wake:
		case <-l.flush.C:
			l.overdue()
		case <-l.closing:
			return false
		case <-l.failed:
			return false
		case <-l.stream.Lost():
			// Only advice, but to stop is always safe: the batches in the queue
			// are not written (R9).
			l.turn <- struct{}{}
			if l.Err() == nil { // an append may have been refused meanwhile
				l.fail(fmt.Errorf("log term %s: %w", l.Term(), ErrFenced))
			}
			<-l.turn
			return false
		}
	}
	return true
}

// alone reports whether one forced append waits and no other is expected. mu is held.
func (l *Log) alone() bool {
	return l.expected <= 1 && len(l.full) == 0 && l.current != nil && l.current.forced == 1
}

// lead writes b in the caller's goroutine if that is alone. Whoever has the turn
// already looks for more when it is over; whoever ends being alone wakes the writer.
func (l *Log) lead(b *Batch) {
	l.mu.Lock()
	alone := l.alone() && l.current.batch == b
	l.mu.Unlock()
	if !alone {
		return
	}
	select {
	case l.turn <- struct{}{}:
	default:
		return
	}
	l.commitDue()
	<-l.turn
	l.handOver()
}

// handOver leaves what is due to the writer.
func (l *Log) handOver() {
	if l.due() {
		l.signal()
	}
}

// due reports whether records wait that are not to wait for others.
func (l *Log) due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.full) > 0 || l.current != nil && (l.current.forced > 0 || l.current.due)
}

// overdue makes the records due that have waited for Config.FlushInterval.
func (l *Log) overdue() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil {
		l.current.due = true
	}
}

// commitDue writes one queue, if one is due.
func (l *Log) commitDue() {
	if !l.due() {
		return // another turn was faster
	}
	l.settle()
	if q := l.take(); q != nil {
		l.commit(q)
	}
}

// settle yields until no more records come, or all have come who can be expected: those
// who were woken by the last batch and those who then waited. Without it the woken
// ones would miss the next batch, and the callers split into two convoys that each
// wait for the other's write. A lone caller expects nobody, and need not yield; every
// few turns it does all the same, or it would never meet the others if the store were
// so fast that they never ran meanwhile.
func (l *Log) settle() {
	l.turns++
	probe, before := l.turns%probeEvery == 0, -1
	for range maxYields {
		l.mu.Lock()
		n, all := l.queued, len(l.full) > 0 || l.current.forced >= l.expected
		l.mu.Unlock()
		if all && !probe || n == before {
			return
		}
		before = n
		runtime.Gosched()
	}
}

// take returns the oldest queue, nil if nothing waits.
func (l *Log) take() *queue {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.current
	if len(l.full) > 0 {
		q, l.full = l.full[0], l.full[1:]
	} else {
		l.current = nil
		l.flush.Stop()
	}
	if q != nil {
		l.queued -= len(q.buf)
		l.room.bytes -= int64(len(q.buf)) // until the store is asked again
	}
	return q
}

// commit writes a queue as one segment and tells its batch. It reports whether the
// log can go on.
func (l *Log) commit(q *queue) bool {
	s := l.segments
	s.say(q.said)
	s.add(q.entries, q.buf)
	err := s.retire(time.Now())
	if err != nil {
		// Nothing was sent to the store, but what is to be dropped can't be
		// carried: the records of a transaction contradict each other.
		l.fail(err)
		q.batch.finish(fmt.Errorf("%w: %s", ErrPoisoned, err.Error()))
		return false
	}
	if err = l.write(l.ctx); err != nil {
		l.fail(err)
		q.batch.finish(err)
		return false
	}
	forgotten := l.publish(q)
	q.batch.finish(nil)
	l.reserve()
	l.recycle(q)
	if len(forgotten) > 0 && l.config.Forgotten != nil {
		l.config.Forgotten(forgotten)
	}
	return true
}

// write appends the segment that is made ready. The returned error Is ErrFenced if
// the segment is not written, ErrUnknown if that is unknown; either way nothing
// may be appended any more (R5).
func (l *Log) write(ctx context.Context) error {
	seq, data, drop, err := l.segments.seal()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	for attempt, pause := 0, repeatAfter; ; attempt++ {
		err := l.append(ctx, seq, data, drop)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrFenced) && attempt == 0:
			return fmt.Errorf("append segment %d to log term %s: %w", seq, l.Term(), err)
		case errors.Is(err, ErrFenced):
			// The cause is text only: what Is ErrFenced was not written, and of the
			// earlier attempts that is not known.
			return fmt.Errorf("append segment %d to log term %s: %w: %s", seq, l.Term(), ErrUnknown, err.Error())
		case !errors.Is(err, ErrRepeat) || !sleep(ctx, pause):
			return fmt.Errorf("append segment %d to log term %s: %w: %w", seq, l.Term(), ErrUnknown, err)
		}
		pause = min(2*pause, repeatAtMost)
	}
}

// append turns a panic of the driver into an error: what it had written is
// unknown (R5).
func (l *Log) append(ctx context.Context, seq uint64, data []byte, drop []uint64) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic of the log's driver: %v", p)
		}
	}()
	return l.stream.Append(ctx, seq, data, drop)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// publish makes known what has become durable.
func (l *Log) publish(q *queue) []participant.TxID {
	s := l.segments
	forgotten, catalogued := s.appended()
	former, words := l.durable.former, l.durable.words // written only in a turn
	if catalogued {
		former, words = slices.Clone(s.marks.former), s.marks.words
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expected = q.forced
	if l.current != nil {
		l.expected += l.current.forced
	}
	l.durable = marks{own: s.marks.own, former: former, words: words}
	l.stats.Segments = len(s.list)
	l.stats.Bytes = s.bytes
	l.stats.LiveBytes = s.live
	l.stats.Appends++
	l.stats.Records += int64(q.records)
	l.stats.Carried = s.carries
	return forgotten
}

func (l *Log) recycle(q *queue) {
	clear(q.entries)
	*q = queue{buf: q.buf[:0], entries: q.entries[:0]}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < freeQueues {
		l.free = append(l.free, q)
	}
}

// fail poisons the log (R5): whatever waits was not written, and nothing will be.
func (l *Log) fail(cause error) {
	refused := fmt.Errorf("%w: %s", ErrPoisoned, cause.Error())
	if errors.Is(cause, ErrFenced) {
		refused = cause
	}
	l.mu.Lock()
	waiting := l.full
	if l.current != nil {
		waiting = append(waiting, l.current)
	}
	l.full, l.current, l.queued = nil, nil, 0
	l.err = cause
	l.failedBatch = &Batch{log: l, done: make(chan struct{})}
	l.failedBatch.finish(refused)
	l.mu.Unlock()
	close(l.failed)
	for _, q := range waiting {
		q.batch.finish(refused)
	}
}
