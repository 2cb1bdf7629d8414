package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

var logConfig = wal.Config{Domain: "bench", Owner: "bench"}

// together is how many transactions share an append, as with so many clients.
const together = 1024

// leaveInDoubt makes the file at path what a crash leaves: a log that was not closed,
// with n transactions of two branches that are preparing, every second one also
// decided. One in share of them has a third branch, of the participant that may
// hang; share is 0 for none.
func leaveInDoubt(ctx context.Context, path string, n, share int) (err error) {
	live := path + ".live"
	store, err := bolt.Open(live, anywhere)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(), os.Remove(live), os.Remove(live+".lock")) }()
	log, _, err := wal.Open(ctx, store, logConfig)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close(context.WithoutCancel(ctx))) }()
	l := leftover{log: log, n: n, share: share}
	for more := true; more && err == nil; {
		more, err = l.appendGroup(ctx)
	}
	if err != nil {
		return fmt.Errorf("make a log with transactions in doubt: %w", err)
	}
	// All of it is durable, and the log is not closed: a crash would leave this.
	return copyFile(path, live)
}

// leftover is a log being filled.
type leftover struct {
	log       *wal.Log
	n, share  int
	begun     int
	ids       []uuid.UUID // for those that come next
	undecided []preparing // that are to be decided
}

type preparing struct {
	place *wal.Place
	votes []participant.Vote
}

// appendGroup decides what the group before left to be decided, and begins another
// group; the last record is forced. It returns when all is durable, and whether
// there was anything to do.
func (l *leftover) appendGroup(ctx context.Context) (more bool, err error) {
	var last *wal.Batch
	group := min(together, l.n-l.begun)
	for i, p := range l.undecided {
		decided := record.Decided{Tx: p.place.ID(), Decision: record.DecisionCommit, Votes: p.votes, By: record.NoBranch}
		if last, err = l.log.Append(p.place, group == 0 && i == len(l.undecided)-1, decided); err != nil {
			return false, err
		}
	}
	l.undecided = l.undecided[:0]
	for i := range group {
		if last, err = l.begin(i == group-1); err != nil {
			return false, err
		}
	}
	if last == nil {
		return false, nil
	}
	select {
	case <-last.Done():
		return true, last.Err()
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// begin appends all of a transaction but its decision.
func (l *leftover) begin(forced bool) (*wal.Batch, error) {
	id, err := l.id()
	if err != nil {
		return nil, err
	}
	names := []string{"bank_a", "bank_b"}
	if l.share > 0 && l.begun%l.share == 0 {
		names = append(names, hanging)
	}
	p := preparing{place: l.log.NewPlace(participant.TxID{Term: l.log.Term(), UUID: id})}
	records := []record.Record{record.Begun{Tx: p.place.ID(), At: time.Now(), Timeout: time.Minute}}
	for i, name := range names {
		records = append(records, record.Enlisted{Tx: p.place.ID(), Number: i, Participant: name})
		p.votes = append(p.votes, participant.VotePrepared)
	}
	if l.begun%2 == 0 {
		l.undecided = append(l.undecided, p)
	}
	l.begun++
	return l.log.Append(p.place, forced, append(records, record.Preparing{Tx: p.place.ID()})...)
}

// shuffled is how many ids are used in any order, as clients do that begin at the
// same time.
const shuffled = 64

func (l *leftover) id() (id uuid.UUID, err error) {
	if len(l.ids) == 0 {
		for range shuffled {
			if id, err = uuid.NewV7(); err != nil {
				return id, err
			}
			l.ids = append(l.ids, id)
		}
		rand.Shuffle(len(l.ids), func(i, j int) { l.ids[i], l.ids[j] = l.ids[j], l.ids[i] })
	}
	last := len(l.ids) - 1
	id, l.ids = l.ids[last], l.ids[:last]
	return id, nil
}

// copyLog copies the log at path, which is then opened in its place: to open one
// changes it. remove removes the copy.
func copyLog(path string) (copied string, remove func() error, err error) {
	copied = path + ".copy"
	if err := copyFile(copied, path); err != nil {
		return "", nil, err
	}
	return copied, func() error { return errors.Join(os.Remove(copied), os.Remove(copied+".lock")) }, nil
}

// copyFile makes a durable copy, so that nobody measures its writing.
func copyFile(to, from string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy a log: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("copy a log: %w", err)
	}
	_, err = io.Copy(target, source)
	if err = errors.Join(err, target.Sync(), target.Close()); err != nil {
		return fmt.Errorf("copy a log: %w", err)
	}
	return nil
}
