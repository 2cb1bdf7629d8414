package barrier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// attempts bounds the repeats of a local transaction that met another one.
	// Past it the coordinator repeats the call, or takes the vote as unknown.
	attempts = 20
	minPause = time.Millisecond
	maxPause = 100 * time.Millisecond
)

// local is the local transaction of one call for one branch.
type local struct {
	p      *Participant
	tx     *sql.Tx
	branch participant.Branch
	id     string
	now    time.Time
}

// call runs f in a local transaction, and commits it if f returns nil. f runs
// again if the transaction has to be repeated, so it sets all that it answers.
func (p *Participant) call(ctx context.Context, b participant.Branch, f func(*local) error) error {
	prune := p.calls.Add(1)%pruneEvery == 0
	id := string(b.XID())
	// A key that can't be read back would spoil every list, and one that is cut to
	// fit its column be another branch's.
	if _, err := participant.ParseXID(id); err != nil {
		return err
	}
	return p.transact(ctx, func(tx *sql.Tx) error {
		l := &local{p: p, tx: tx, branch: b, id: id, now: time.Now()}
		if err := l.fence(ctx); err != nil {
			return err
		}
		if err := f(l); err != nil || !prune {
			return err
		}
		return p.prune(ctx, tx, l.now)
	})
}

// transact runs f in a database transaction, and repeats the whole of it as long
// as the database says that it only met another one.
func (p *Participant) transact(ctx context.Context, f func(*sql.Tx) error) error {
	return p.repeat(ctx, func() error {
		tx, err := p.cfg.DB.BeginTx(ctx, p.cfg.Dialect.txOptions())
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		// Also when a function of the service panics. It does nothing after Commit.
		defer func() { _ = tx.Rollback() }()
		if err := f(tx); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("commit locally: %w", err)
		}
		return nil
	})
}

func (p *Participant) repeat(ctx context.Context, f func() error) error {
	pause := minPause
	for n := 1; ; n++ {
		err := f()
		if err == nil || n == attempts || !p.cfg.Dialect.retryable(err) {
			return p.diagnose(err)
		}
		timer := time.NewTimer(rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%w while repeating after: %w", ctx.Err(), err)
		}
		pause = min(2*pause, maxPause)
	}
}

// diagnose adds what to change to an error that repeating does not mend. What
// the service's functions ran into is theirs to explain.
func (p *Participant) diagnose(err error) error {
	var failure *functionError
	if err == nil || errors.As(err, &failure) {
		return err
	}
	if remedy := p.cfg.Dialect.remedy(err); remedy != "" {
		return fmt.Errorf("%w: %s: %w", participant.ErrConfig, remedy, err)
	}
	return err
}

// fence refuses a call of a coordinator whose term was taken over, and remembers
// a newer epoch (R9). It comes first, so that such a call changes nothing.
//
// A term that was not used for long is on its way to be deleted: remembering it
// waits for that, or keeps it from happening.
func (l *local) fence(ctx context.Context) error {
	if lock := l.p.sql.lock; lock != "" {
		if _, err := l.tx.ExecContext(ctx, lock); err != nil {
			return fmt.Errorf("lock the tables: %w", err)
		}
	}
	b := l.branch
	var seen uint64
	var used int64
	err := l.tx.QueryRowContext(ctx, l.p.sql.epoch, b.Domain, b.Tx.Term.String()).Scan(&seen, &used)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return l.p.remember(ctx, l.tx, b, "", l.now)
	case err != nil:
		return fmt.Errorf("read the epoch: %w", err)
	case seen > b.Epoch:
		return fmt.Errorf("epoch %d, seen %d: %w", b.Epoch, seen, participant.ErrStaleEpoch)
	case seen < b.Epoch || used <= l.now.Add(-l.p.cfg.MaxRetention/2).Unix():
		return l.p.remember(ctx, l.tx, b, "", l.now)
	}
	return nil
}

// insert adds the branch's row, unless it has one. A concurrent call that has
// inserted it is waited for.
func (l *local) insert(ctx context.Context, s state) (inserted bool, err error) {
	inserted, err = l.change(ctx, l.p.sql.insert, l.id, l.p.cfg.Name, s, l.branch.Data, l.now.Unix(), l.expires(s))
	if err != nil {
		return false, fmt.Errorf("insert the row: %w", err)
	}
	return inserted, nil
}

// finish changes the branch's row, if it says prepared.
func (l *local) finish(ctx context.Context, s state) (finished bool, err error) {
	finished, err = l.change(ctx, l.p.sql.finish, s, l.now.Unix(), l.expires(s), l.id)
	if err != nil {
		return false, fmt.Errorf("change the row to %s: %w", s, err)
	}
	return finished, nil
}

// find returns what the row says and locks it; an empty state if there is none. The
// branch gets the row's Data: the caller may be a sweep that knows only the XID.
func (l *local) find(ctx context.Context) (s state, err error) {
	var data []byte
	err = l.tx.QueryRowContext(ctx, l.p.sql.find, l.id).Scan(&s, &data)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the row: %w", err)
	}
	l.branch.Data = data
	l.branch.Participant = l.p.cfg.Name
	return s, nil
}

// harden makes durable with this local transaction what another one has made the row say.
func (l *local) harden(ctx context.Context) error {
	if l.p.sql.harden == "" {
		return nil
	}
	if _, err := l.change(ctx, l.p.sql.harden, l.id); err != nil {
		return fmt.Errorf("make sure of the row: %w", err)
	}
	return nil
}

func (l *local) change(ctx context.Context, statement string, args ...any) (changed bool, err error) {
	result, err := l.tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// expires is zero, never, for a branch in doubt.
func (l *local) expires(s state) int64 {
	if s == prepared {
		return 0
	}
	return l.now.Add(l.p.cfg.MaxRetention).Unix()
}

// still returns an error unless the local transaction is the one in which the row
// was made to say s. A function that goes on after an error, or has ended its tx, may be
// in none, or in another one; and what commits that reports no error.
func (l *local) still(ctx context.Context, what string, s state) error {
	is, err := l.find(ctx)
	if err == nil && is != s {
		err = fmt.Errorf("the local transaction ended during %s, which must return every error of its tx and not end it", what)
	}
	return err
}

// functionError is an error of one of the service's functions. It hides what the
// contract would read as the end of the branch, since the local transaction is
// undone: ErrRefused of a Confirm, for one, would be taken for rolled back for
// good, while a repeated call may still commit.
type functionError struct {
	what string
	err  error
}

func (e *functionError) Error() string { return fmt.Sprintf("%s: %v", e.what, e.err) }

func (e *functionError) Is(target error) bool {
	switch target {
	case participant.ErrRefused, participant.ErrUnknownBranch, participant.ErrStaleEpoch:
		return false
	}
	return errors.Is(e.err, target)
}

func (e *functionError) As(target any) bool {
	if _, ok := target.(**participant.HeuristicError); ok {
		return false
	}
	return errors.As(e.err, target)
}
