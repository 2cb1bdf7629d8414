package participanttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
)

// branch returns a new transaction's branch that no participant was told of.
func (s *script) branch() participant.Branch { return s.branchOf(s.domain) }

func (s *script) branchOf(domain string) participant.Branch {
	if s.ended() {
		return participant.Branch{}
	}
	id, err := uuid.NewV7()
	if err != nil {
		s.fail("new transaction id: %w", err)
	}
	return participant.Branch{
		Domain: domain, Tx: participant.TxID{Term: s.term, UUID: id}, Epoch: 1,
		Deadline: time.Now().Add(time.Hour),
	}
}

// told remembers that a participant may hold something for b from now on.
func (s *script) told(b participant.Branch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[b.XID()] = b
}

func (s *script) finished(b participant.Branch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, b.XID())
}

// enlister is the transaction that Begin sees.
type enlister struct{ b participant.Branch }

func (e *enlister) ID() participant.TxID { return e.b.Tx }

func (e *enlister) Enlist(_ context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	if len(data) > participant.MaxData {
		return participant.Branch{}, fmt.Errorf("enlist %q: %d bytes of data, limit %d", p.Name(), len(data), participant.MaxData)
	}
	e.b.Participant, e.b.Data = p.Name(), bytes.Clone(data)
	return e.b, nil
}

// work does with b what the subject's Begin or Refuse does, if anything. After an
// error the branch is enlisted or not.
func (s *script) work(
	p *participant.Registered, b participant.Branch,
	begin func(context.Context, participant.Participant, participant.Enlister) error,
) (participant.Branch, error) {
	s.told(b)
	tx, err := &enlister{b: b}, error(nil)
	if begin != nil {
		err = begin(s.ctx, p.Participant, tx)
	}
	if err == nil {
		tx.b.Participant = p.Name()
	}
	s.told(tx.b)
	return tx.b, err
}

// enlisted reports whether a branch has become its participant's.
func enlisted(b participant.Branch) bool { return b.Participant != "" }

// begins returns the subject's Begin in the process of p.
func (s *script) begins(p *participant.Registered) func(context.Context, participant.Participant, participant.Enlister) error {
	if elsewhere, ok := p.Participant.(*process); ok {
		return elsewhere.begin
	}
	return s.subject.Begin
}

// refusing returns a new branch whose work p has to refuse.
func (s *script) refusing(p *participant.Registered) participant.Branch {
	b := s.branch()
	if s.ended() {
		return b
	}
	b, err := s.work(p, b, s.subject.Refuse)
	if err != nil {
		s.fail("begin %s, to be refused: %w", b.XID(), err)
	}
	return b
}

// lateWork begins a branch that is rolled back already. That may fail: what
// counts is the Prepare that follows.
func (s *script) lateWork(p *participant.Registered, b participant.Branch) participant.Branch {
	if s.ended() {
		return b
	}
	b, _ = s.work(p, b, s.subject.Begin)
	return b
}

// begun returns a new branch that is ready to be prepared at p.
func (s *script) begun(p *participant.Registered) participant.Branch { return s.begin(p, s.branch()) }

func (s *script) begin(p *participant.Registered, b participant.Branch) participant.Branch {
	if s.ended() {
		return b
	}
	b, err := s.work(p, b, s.begins(p))
	if err != nil {
		s.fail("begin %s: %w", b.XID(), err)
	}
	return b
}

// prepared returns a new branch that p voted prepared for.
func (s *script) prepared(p *participant.Registered) participant.Branch {
	b := s.begun(p)
	s.prepare(p, b)
	return b
}

func (s *script) prepare(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	s.told(b)
	if vote, err := p.Prepare(s.ctx, b); vote != participant.VotePrepared {
		s.fail("prepare %s: vote %s, error %v; want %s", b.XID(), vote, err, participant.VotePrepared)
	}
}

// refuses sends a Prepare that has to be refused.
func (s *script) refuses(p *participant.Registered, b participant.Branch, why string) {
	if s.ended() {
		return
	}
	if vote, err := p.Prepare(s.ctx, b); vote != participant.VoteRefused {
		s.told(b)
		s.fail("prepare %s, %s: vote %s, error %v; want %s", b.XID(), why, vote, err, participant.VoteRefused)
	}
}

// commit sends Commit until it is acknowledged.
func (s *script) commit(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	if err := s.repeat(b, p.Commit); err != nil {
		s.fail("commit %s: %w", b.XID(), err)
		return
	}
	s.finished(b)
}

// rollback sends Rollback until it is acknowledged.
func (s *script) rollback(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	if err := s.repeat(b, p.Rollback); !rolledBack(err) {
		s.fail("rollback %s: %w", b.XID(), err)
		return
	}
	s.finished(b)
}

// saysCommitted reports whether an answer to Commit or Rollback means that the
// branch is committed.
func saysCommitted(err error) bool {
	var heuristic *participant.HeuristicError
	return errors.As(err, &heuristic) &&
		(heuristic.Outcome == participant.OutcomeCommitted || heuristic.Outcome == participant.OutcomeHeuristicCommit)
}

// deniesCommit sends a Commit that must not be answered as if it were done.
func (s *script) deniesCommit(p *participant.Registered, b participant.Branch, why string) {
	if s.ended() {
		return
	}
	if err := p.Commit(s.ctx, b); err == nil || saysCommitted(err) {
		s.fail("commit %s, %s: answer %v means committed", b.XID(), why, err)
	}
}

// deniesRollback sends a Rollback to a committed branch.
func (s *script) deniesRollback(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	err := p.Rollback(s.ctx, b)
	var heuristic *participant.HeuristicError
	if rolledBack(err) || errors.As(err, &heuristic) && !saysCommitted(err) {
		s.fail("rollback %s, which is committed: answer %v means rolled back", b.XID(), err)
	}
}

// promisesNothing sends a Prepare to a committed branch.
func (s *script) promisesNothing(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	vote, err := p.Prepare(s.ctx, b)
	if vote == participant.VotePrepared || vote == participant.VoteReadOnly {
		s.told(b)
		s.fail("prepare %s, committed: vote %s, error %v", b.XID(), vote, err)
	}
}

func (s *script) visible(b participant.Branch) { s.effects(b, true) }

func (s *script) invisible(b participant.Branch) { s.effects(b, false) }

func (s *script) effects(b participant.Branch, want bool) {
	if s.ended() {
		return
	}
	switch got, err := s.subject.Visible(s.ctx, b); {
	case errors.Is(err, ErrUnseen):
		s.overlook()
	case err != nil:
		s.fail("effects of %s: %w", b.XID(), err)
	case got && !want:
		s.fail("effects of %s are visible, and must not be", b.XID())
	case !got && want:
		s.fail("effects of %s are not visible", b.XID())
	}
}
