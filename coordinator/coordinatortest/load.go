package coordinatortest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/assent-tm/assent/coordinator"
)

const (
	clients  = 16
	deals    = clients * 6
	restarts = 3
)

// restartsUnderLoad kills the service again and again while clients are at work, and
// restarts the coordinator at the end: what was committed is there, once, and nothing
// else.
func restartsUnderLoad(ctx context.Context, s *site) error {
	if s.subject.Restart == nil {
		return nil
	}
	l := load{site: s, begun: make(chan struct{}, deals)}
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range deals / clients {
				l.deal(ctx)
			}
		})
	}
	err := l.restart(ctx)
	all.Wait()
	if err = errors.Join(err, errors.Join(l.failed...)); err != nil {
		return err
	}
	if err := s.reopen(ctx); err != nil {
		return err
	}
	return l.settled(ctx)
}

// load is what clients did.
type load struct {
	*site
	begun chan struct{}

	mu       sync.Mutex
	outcomes []outcome
	failed   []error
}

type outcome struct {
	deal
	committed bool
}

// deal runs transactions until one has come as far as its votes: while the service is
// away none begins.
func (l *load) deal(ctx context.Context) {
	l.begun <- struct{}{}
	for ctx.Err() == nil {
		d, err := l.transact(ctx, nil)
		committed := err == nil || errors.Is(err, coordinator.ErrCommitPending)
		asked := committed || errors.Is(err, coordinator.ErrRolledBack)
		l.mu.Lock()
		l.outcomes = append(l.outcomes, outcome{d, committed})
		if errors.Is(err, coordinator.ErrOutcomeUnknown) {
			l.failed = append(l.failed, fmt.Errorf("transaction %s: %w", d.bank.Tx, err))
			asked = true
		}
		l.mu.Unlock()
		if asked || pause(ctx) != nil {
			return
		}
	}
}

// restart restarts the service in equal shares of the deals.
func (l *load) restart(ctx context.Context) error {
	for range restarts {
		for range deals / (restarts + 1) {
			select {
			case <-l.begun:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if err := l.subject.Restart(ctx); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	}
	return nil
}

// settled fails unless every transaction went at both the way that was answered, and
// nothing is left prepared.
func (l *load) settled(ctx context.Context) error {
	committed := 0
	for _, o := range l.outcomes {
		if o.committed {
			committed++
		}
		if o.branch.Participant == "" {
			continue // it was not even enlisted
		}
		if err := l.requireEffects(ctx, o.deal, o.committed); err != nil {
			return err
		}
	}
	if committed == 0 {
		return errors.New("nothing was committed")
	}
	return l.requireNonePrepared(ctx)
}
