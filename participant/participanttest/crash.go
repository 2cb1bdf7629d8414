package participanttest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
)

// strikes is how often a crash strikes at random moments.
const strikes = 4

// crash is what strikes in a case.
type crash struct {
	// name is how the names of its cases end, what is what happened in their rules.
	name, what string
	// victim returns an instance for the crash to strike.
	victim func(*script) victim
}

// victim is an instance, what strikes it, and what goes on in its place afterwards.
type victim struct {
	*participant.Registered
	strike    func()
	successor func() *participant.Registered
}

var (
	// restart takes the service away: sessions end, and what is not on its disk.
	restart = crash{"restart", "the service was killed", func(s *script) victim {
		s.needs(s.subject.Restart != nil, "Restart")
		p := s.instance()
		return victim{p, s.restart, func() *participant.Registered { return p }}
	}}
	// kill takes the participant's process away: its memory and its sessions.
	kill = crash{"kill", "the participant's process was killed", func(s *script) victim {
		p := s.process()
		return victim{p, func() { s.kill(p) }, s.process}
	}}
)

var crashCases = slices.Concat(casesOf(restart), casesOf(kill))

// casesOf returns the cases of one kind of crash, in the order of a branch's way.
func casesOf(c crash) []Case {
	after, during := func(what string) string { return what + "-after-" + c.name }, func(what string) string { return what + "-during-" + c.name }
	return []Case{
		scripted(after("begun"), "What was begun when "+c.what+" can be rolled back, and is never taken for work that is done or that changed nothing.",
			func(s *script) { s.begunAfter(c) }),
		scripted(during("prepare"), "If "+c.what+" during Prepare, votes that were given are kept, and a branch whose vote is unknown can be rolled back for good (R4).",
			func(s *script) { s.prepareDuring(c) }),
		scripted(after("commit"), "A vote of VotePrepared is a promise: when "+c.what+" the branch is still prepared, and can be committed.",
			func(s *script) { s.finishAfter(c, true) }),
		scripted(after("rollback"), "A vote of VotePrepared is a promise: when "+c.what+" the branch is still prepared, and can be rolled back.",
			func(s *script) { s.finishAfter(c, false) }),
		scripted(during("finish"), "If "+c.what+" during Commit or Rollback, repeating the call finishes the branch: once, and no other way (R6).",
			func(s *script) { s.finishDuring(c) }),
		scripted(after("repeat"), "If "+c.what+" when a branch was finished and the answer lost, the call is repeated and acknowledged, and changes nothing.",
			func(s *script) { s.repeatAfter(c) }),
		scripted(during("one-phase"), "If "+c.what+" during CommitOnePhase, Rollback tells which way the branch went, and it stays so (R3).",
			func(s *script) { s.onePhaseDuring(c) }),
	}
}

// process returns a fresh instance in a process of its own.
func (s *script) process() *participant.Registered {
	s.needs(s.subject.Where != "", "Where")
	if s.ended() {
		return &participant.Registered{}
	}
	p, err := startProcess(s.ctx, s.subject.Where)
	if err != nil {
		s.fail("new process: %w", err)
		return &participant.Registered{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes = append(s.processes, p.Participant.(*process))
	return p
}

// kill kills the process of an instance that process returned.
func (s *script) kill(p *participant.Registered) {
	if s.ended() {
		return
	}
	if err := p.Participant.(*process).kill(); err != nil {
		s.fail("kill process: %w", err)
	}
}

// commits tells which of several branches a case commits; it rolls back the others.
func commits(i int) bool { return i%2 == 0 }

func (s *script) begunAfter(c crash) {
	v := c.victim(s)
	rolledBack, late, lateElsewhere := s.begun(v.Registered), s.begun(v.Registered), s.begun(v.Registered)
	v.strike()
	p, fresh := v.successor(), s.instance()
	s.rollback(fresh, rolledBack)
	s.settled(fresh, rolledBack, false)
	s.finishIfPrepared(p, late)
	s.finishIfPrepared(fresh, lateElsewhere)
	s.nonePrepared(fresh)
}

func (s *script) prepareDuring(c crash) {
	v := c.victim(s)
	usual := s.timed(func() {
		s.all(rounds, func(int) { s.rollback(v.Registered, s.prepared(v.Registered)) })
	})
	for range strikes {
		branches, votes := make([]participant.Branch, rounds), make([]participant.Vote, rounds)
		s.struck(v, usual, func(i int) {
			if branches[i] = s.tryBegin(v.Registered); enlisted(branches[i]) {
				votes[i] = s.tryPrepare(v.Registered, branches[i])
			}
		})
		p, fresh := v.successor(), s.instance()
		for i, b := range branches {
			if enlisted(b) {
				committed := votes[i] == participant.VotePrepared && commits(i)
				s.finish([]*participant.Registered{p, fresh}[i/2%2], b, committed)
				s.settled(fresh, b, committed)
			}
		}
		s.nonePrepared(fresh)
		v = c.victim(s)
	}
}

// finishAfter finishes branches in the instance that goes on, and in a fresh one.
func (s *script) finishAfter(c crash, committed bool) {
	v := c.victim(s)
	here, elsewhere := s.prepared(v.Registered), s.prepared(v.Registered)
	v.strike()
	p, fresh := v.successor(), s.instance()
	if fresh.Lister != nil {
		s.listed(fresh, s.domain, here, elsewhere)
	}
	s.invisible(here)
	s.invisible(elsewhere)
	s.finish(p, here, committed)
	s.finish(fresh, elsewhere, committed)
	s.settled(fresh, here, committed)
	s.settled(fresh, elsewhere, committed)
	s.nonePrepared(fresh)
}

func (s *script) finishDuring(c crash) {
	v := c.victim(s)
	branches := s.preparedAll(v.Registered)
	usual := s.timed(func() { s.all(rounds, func(i int) { s.finish(v.Registered, branches[i], commits(i)) }) })
	for range strikes {
		branches, done := s.preparedAll(v.Registered), make([]bool, rounds)
		s.struck(v, usual, func(i int) { done[i] = s.tryFinish(v.Registered, branches[i], commits(i)) })
		p, fresh := v.successor(), s.instance()
		for i, b := range branches {
			if done[i] {
				s.effects(b, commits(i))
			}
		}
		s.all(rounds, func(i int) { s.finish([]*participant.Registered{p, fresh}[i/2%2], branches[i], commits(i)) })
		for i, b := range branches {
			s.settled(fresh, b, commits(i))
		}
		s.nonePrepared(fresh)
		v = c.victim(s)
	}
}

func (s *script) repeatAfter(c crash) {
	v := c.victim(s)
	branches := s.preparedAll(v.Registered)
	s.all(rounds, func(i int) { s.finish(v.Registered, branches[i], commits(i)) })
	v.strike()
	p, fresh := v.successor(), s.instance()
	for i, b := range branches {
		s.settled(fresh, b, commits(i))
		s.finish(p, b, commits(i))
		s.effects(b, commits(i))
	}
	s.nonePrepared(fresh)
}

func (s *script) onePhaseDuring(c crash) {
	v := c.victim(s)
	s.needs(v.OnePhaser != nil, "OnePhaser")
	usual := s.timed(func() {
		s.all(rounds, func(int) { s.commitOnePhase(v.Registered, s.begun(v.Registered)) })
	})
	for range strikes {
		branches, answers := make([]participant.Branch, rounds), make([]error, rounds)
		s.struck(v, usual, func(i int) {
			if branches[i] = s.tryBegin(v.Registered); enlisted(branches[i]) {
				answers[i] = v.OnePhaser.CommitOnePhase(s.ctx, branches[i])
			}
		})
		p, fresh := v.successor(), s.instance()
		for i, b := range branches {
			if enlisted(b) {
				s.decidedAlone(p, fresh, b, answers[i])
			}
		}
		s.nonePrepared(fresh)
		v = c.victim(s)
	}
}

// decidedAlone asks p, as a coordinator does after a crash, what became of a branch
// whose CommitOnePhase was answered so, and ends the script unless all that follows
// agrees (R3).
func (s *script) decidedAlone(p, fresh *participant.Registered, b participant.Branch, answer error) {
	committed := s.outcome(p, b)
	if answer == nil && !committed || errors.Is(answer, participant.ErrRefused) && committed {
		s.fail("one-phase commit %s: answer %v, then committed is %t", b.XID(), answer, committed)
	}
	s.effects(b, committed)
	if committed {
		s.commitOnePhase(fresh, b)
	} else {
		s.refusesOnePhase(fresh, b)
	}
	s.effects(b, committed)
}

// struck makes a call for each of the branches at once, and strikes when a random
// number of them are answered, before the next answer can be expected.
func (s *script) struck(v victim, usual time.Duration, call func(i int)) {
	answered := make(chan struct{}, rounds)
	s.all(rounds+1, func(i int) {
		if i < rounds {
			call(i)
			answered <- struct{}{}
			return
		}
		for range rand.IntN(rounds) {
			<-answered
		}
		moment := time.NewTimer(rand.N(usual/rounds + 1))
		defer moment.Stop()
		select {
		case <-moment.C:
		case <-s.ctx.Done():
		}
		v.strike()
	})
}

// timed returns how long the calls for as many branches as overlap take.
func (s *script) timed(step func()) time.Duration {
	begun := time.Now()
	step()
	return time.Since(begun)
}

// tryBegin returns a new branch whose work may fail, also before it is enlisted, so
// that no coordinator would know of it.
func (s *script) tryBegin(p *participant.Registered) participant.Branch {
	b, _ := s.work(p, s.branch(), s.begins(p))
	if !enlisted(b) {
		s.finished(b)
	}
	return b
}

// tryPrepare sends a Prepare that may fail, but not with a vote that is wrong.
func (s *script) tryPrepare(p *participant.Registered, b participant.Branch) participant.Vote {
	s.told(b)
	vote, err := p.Prepare(s.ctx, b)
	if vote == participant.VoteReadOnly {
		s.fail("prepare %s, which has work to do: vote %s, error %v", b.XID(), vote, err)
	}
	return vote
}

// tryFinish sends a Commit or Rollback that may fail for a while, and reports
// whether it was acknowledged.
func (s *script) tryFinish(p *participant.Registered, b participant.Branch, committed bool) (done bool) {
	if committed {
		err := p.Commit(s.ctx, b)
		if final(err) {
			s.fail("commit %s during a crash: %w", b.XID(), err)
		}
		return err == nil
	}
	err := p.Rollback(s.ctx, b)
	if !rolledBack(err) && final(err) {
		s.fail("rollback %s during a crash: %w", b.XID(), err)
	}
	return rolledBack(err)
}

// outcome asks by a Rollback what became of a branch that was to decide by itself.
func (s *script) outcome(p *participant.Registered, b participant.Branch) (committed bool) {
	if s.ended() {
		return false
	}
	err := s.repeat(b, p.Rollback)
	var heuristic *participant.HeuristicError
	switch {
	case rolledBack(err):
		s.finished(b)
		return false
	case errors.As(err, &heuristic) && heuristic.Outcome == participant.OutcomeCommitted:
		s.finished(b)
		return true
	default:
		s.fail("rollback %s after a one-phase commit that was cut off: %w", b.XID(), err)
		return false
	}
}

func (s *script) finish(p *participant.Registered, b participant.Branch, committed bool) {
	if committed {
		s.commit(p, b)
	} else {
		s.rollback(p, b)
	}
}

// settled ends the script unless the branch went this way, once, and stays so
// whatever is repeated, comes late or contradicts.
func (s *script) settled(p *participant.Registered, b participant.Branch, committed bool) {
	s.effects(b, committed)
	if committed {
		s.deniesRollback(p, b)
		s.promisesNothing(p, b)
	} else {
		s.deniesCommit(p, b, "rolled back")
		s.refuses(p, b, "rolled back")
	}
	s.finish(p, b, committed)
	s.effects(b, committed)
}

// nonePrepared ends the script if p lists a branch of the run as prepared.
func (s *script) nonePrepared(p *participant.Registered) {
	if p.Lister != nil {
		s.listed(p, s.domain)
	}
}

// preparedAll returns as many branches as overlap, prepared at p.
func (s *script) preparedAll(p *participant.Registered) []participant.Branch {
	branches := make([]participant.Branch, rounds)
	s.all(rounds, func(i int) { branches[i] = s.prepared(p) })
	return branches
}
