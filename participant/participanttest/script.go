package participanttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// maxAttempts and maxPause bound how long a call is repeated that the
	// contract allows to fail for a while: about two seconds.
	maxAttempts = 24
	maxPause    = 128 * time.Millisecond
	// soon is how long a call may take to notice that its context has ended:
	// generous, since the machine may be busy; what it tells apart is never.
	soon = 5 * time.Second
	// onItsWay is after how long a call is cut off that should be under way.
	onItsWay = time.Millisecond
	// cleanTime bounds the cleaning up, which starts even if the case's time is over.
	cleanTime = 10 * time.Second
)

// script is one run of a case. Its methods are the steps. The first step that
// fails ends it: what follows does nothing, so a case reads as a list of steps.
// Steps may run concurrently.
type script struct {
	// ctx is the whole run's; a script lives no longer than Case.Run.
	ctx     context.Context
	subject Subject
	domain  string
	term    participant.Term

	mu        sync.Mutex
	err       error
	unseen    bool // somewhere the effects were to be looked at, and could not be
	opened    []io.Closer
	processes []*process
	pending   map[participant.XID]participant.Branch // told to a participant, and not finished
	cleaner   *participant.Registered                // the youngest instance in this process
}

func newScript(ctx context.Context, subject Subject) (*script, error) {
	s := &script{ctx: ctx, subject: subject, domain: subject.Domain, pending: map[participant.XID]participant.Branch{}}
	if s.domain == "" {
		s.domain = defaultDomain
	}
	if subject.New == nil || subject.Visible == nil {
		return nil, errors.New("a Subject needs New and Visible")
	}
	if len(s.domain) > maxSubjectDomain {
		return nil, fmt.Errorf("domain %q is longer than %d bytes", s.domain, maxSubjectDomain)
	}
	s.newTerm(1)
	return s, participant.ValidDomain(s.domain)
}

func (s *script) fail(format string, args ...any) { s.end(fmt.Errorf(format, args...)) }

func (s *script) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *script) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// overlook takes note that effects can't be looked at.
func (s *script) overlook() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unseen = true
}

// needs ends the script as not applicable if the subject lacks what.
func (s *script) needs(has bool, what string) {
	if !has {
		s.end(fmt.Errorf("%w: no %s", ErrNotApplicable, what))
	}
}

// newTerm makes the branches that follow belong to another term.
func (s *script) newTerm(counter uint32) {
	s.term = participant.NewTerm(counter, rand.Uint32())
}

// instance returns a fresh instance.
func (s *script) instance() *participant.Registered {
	if s.ended() {
		return &participant.Registered{}
	}
	reg, err := s.newInstance()
	if err != nil {
		s.end(err)
		return &participant.Registered{}
	}
	return reg
}

func (s *script) newInstance() (*participant.Registered, error) {
	p, err := s.subject.New(s.ctx)
	if err != nil {
		return nil, fmt.Errorf("new instance: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if closer, ok := p.(io.Closer); ok {
		s.opened = append(s.opened, closer)
	}
	reg, _, err := new(participant.Registry).Register(p)
	if err != nil {
		return nil, err
	}
	s.cleaner = reg
	return reg, nil
}

// restart restarts the service behind the participant.
func (s *script) restart() {
	if s.ended() {
		return
	}
	if err := s.subject.Restart(s.ctx); err != nil {
		s.fail("restart: %w", err)
	}
}

// repeat calls until the answer is final, as the coordinator does (R6), though
// not for ever.
func (s *script) repeat(b participant.Branch, call func(context.Context, participant.Branch) error) (err error) {
	pause := time.Millisecond
	for range maxAttempts {
		if err = call(s.ctx, b); err == nil || final(err) {
			return err
		}
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return err
		}
		pause = min(2*pause, maxPause)
	}
	return err
}

func final(err error) bool {
	var heuristic *participant.HeuristicError
	return errors.As(err, &heuristic) || errors.Is(err, participant.ErrUnknownBranch) ||
		errors.Is(err, participant.ErrRefused) || errors.Is(err, participant.ErrStaleEpoch)
}

// rolledBack reports whether an answer to Rollback acknowledges it (R7).
func rolledBack(err error) bool { return err == nil || errors.Is(err, participant.ErrUnknownBranch) }

// cut makes the call with a context that has ended, or that ends while the call
// is on its way, and returns its answer.
func (s *script) cut(during bool, call func(context.Context) error) error {
	if s.ended() {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.ctx, onItsWay)
	defer cancel()
	if !during {
		cancel()
	}
	answer := make(chan error, 1)
	go func() { answer <- call(ctx) }()
	select {
	case err := <-answer:
		return err
	case <-time.After(soon):
		s.fail("no answer within %s after the context ended", soon)
		return nil
	}
}

// all runs n of the step at once and waits for them.
func (s *script) all(n int, step func(i int)) {
	if s.ended() {
		return
	}
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			step(i)
		})
	}
	close(start)
	wg.Wait()
}

// cleanUp rolls back what the run left unfinished, and closes its instances.
// What that answers is no longer the case's matter.
func (s *script) cleanUp() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), cleanTime)
	defer cancel()
	s.ctx = ctx
	for _, p := range s.processes {
		_ = p.Close()
	}
	if s.cleaner == nil && len(s.pending) > 0 {
		_, _ = s.newInstance()
	}
	if s.cleaner != nil {
		for _, b := range s.pending {
			_ = s.repeat(b, s.cleaner.Rollback)
		}
	}
	for _, instance := range s.opened {
		_ = instance.Close()
	}
}
