package participanttest

import (
	"errors"
	"slices"

	"github.com/assent-tm/assent/participant"
)

// optionalCases check the interfaces that a participant may implement.
var optionalCases = []Case{
	scripted("list-prepared", "List returns branches of exactly this domain, all that are prepared and were told no outcome, and no pattern's worth more (R10).",
		func(s *script) {
			p := s.instance()
			s.needs(p.Lister != nil, "Lister")
			begin := func(domain string) participant.Branch {
				b := s.begin(p, s.branchOf(domain))
				s.prepare(p, b)
				return b
			}
			first, second, committed, rolledBack, never := s.prepared(p), s.prepared(p), s.prepared(p), s.prepared(p), s.branch()
			longer := begin(s.domain + "-b")
			begin("a-" + s.domain)
			s.commit(p, committed)
			s.rollback(p, rolledBack)
			s.rollback(p, never)

			for _, q := range []*participant.Registered{p, s.instance()} {
				s.listed(q, s.domain, first, second)
				s.listed(q, longer.Domain, longer)
			}
			s.commit(p, first)
			s.rollback(p, second)
			s.listed(p, s.domain)
		}),

	scripted("list-highest", "Listing.Highest is, for each term the participant remembers, the highest TxID it was ever told to prepare or to finish (R10).",
		func(s *script) {
			p := s.instance()
			s.needs(p.Lister != nil, "Lister")
			low, high := s.begun(p), s.begun(p)
			s.prepare(p, high)
			s.prepare(p, low)
			s.highest(p, high)
			s.commit(p, high)
			s.rollback(p, low)
			s.highest(s.instance(), high)
			rolledBack := s.branch()
			s.rollback(p, rolledBack)
			s.highest(s.instance(), rolledBack)
		}),

	scripted("one-phase", "CommitOnePhase returns nil for committed, now or earlier; Rollback is then answered with a *HeuristicError of OutcomeCommitted (R3).",
		func(s *script) {
			p := s.instance()
			s.needs(p.OnePhaser != nil, "OnePhaser")
			b := s.begun(p)
			s.commitOnePhase(p, b)
			s.visible(b)
			s.commitOnePhase(p, b)
			s.commitOnePhase(s.instance(), b)
			for _, q := range []*participant.Registered{p, s.instance()} {
				if s.ended() {
					return
				}
				var heuristic *participant.HeuristicError
				if err := q.Rollback(s.ctx, b); !errors.As(err, &heuristic) || heuristic.Outcome != participant.OutcomeCommitted {
					s.fail("rollback %s, committed in one phase: %v; want a *HeuristicError: %s", b.XID(), err, participant.OutcomeCommitted)
				}
			}
			s.visible(b)
		}),

	scripted("one-phase-after-rollback", "An error of CommitOnePhase that Is ErrRefused means rolled back, and stays so.",
		func(s *script) {
			p := s.instance()
			s.needs(p.OnePhaser != nil, "OnePhaser")
			rolledBack := s.begun(p)
			s.rollback(p, rolledBack)
			s.refusesOnePhase(p, rolledBack)
			s.refusesOnePhase(s.instance(), rolledBack)
			s.invisible(rolledBack)
		}),

	scripted("one-phase-refused", "CommitOnePhase refuses what Prepare would refuse; the branch is rolled back, and stays so.",
		func(s *script) {
			p := s.instance()
			s.needs(p.OnePhaser != nil, "OnePhaser")
			s.needs(s.subject.Refuse != nil, "Refuse")
			b := s.refusing(p)
			s.refusesOnePhase(p, b)
			s.refusesOnePhase(p, b)
			s.rollback(p, b)
			s.refuses(p, b, "refused in one phase")
			s.invisible(b)
		}),

	scripted("forget", "Forget drops what is kept for these finished branches, and nothing else: what was committed stays, once, and what is prepared stays prepared.",
		func(s *script) {
			p := s.instance()
			s.needs(p.Forgetter != nil, "Forgetter")
			committed, rolledBack, prepared, kept := s.prepared(p), s.prepared(p), s.prepared(p), s.prepared(p)
			s.commit(p, committed)
			s.commit(p, kept)
			s.rollback(p, rolledBack)
			for _, q := range []*participant.Registered{p, s.instance()} {
				s.forget(q, committed, rolledBack)
			}
			s.visible(committed)
			s.invisible(rolledBack)
			s.deniesRollback(p, kept)
			s.commit(p, kept)
			s.invisible(prepared)
			s.commit(p, prepared)
			s.visible(prepared)
			s.visible(kept)
		}),

	scripted("commit-after-forget", "A Commit that comes after Forget makes no second effect.",
		func(s *script) {
			p := s.instance()
			s.needs(p.Forgetter != nil, "Forgetter")
			b := s.prepared(p)
			s.commit(p, b)
			s.forget(p, b)
			if !s.ended() {
				// Committed and unknown are both true by now.
				_ = p.Commit(s.ctx, b)
			}
			s.visible(b)
		}),

	scripted("check", "Check returns nil if the service behind is able to take part.",
		func(s *script) {
			p := s.instance()
			s.needs(p.Checker != nil, "Checker")
			if s.ended() {
				return
			}
			if err := p.Checker.Check(s.ctx); err != nil {
				s.fail("check: %w", err)
			}
		}),

	scripted("explain", "Explain returns what is prepared, in any domain, and how it is finished by hand either way.",
		func(s *script) {
			p := s.instance()
			s.needs(p.Explainer != nil, "Explainer")
			s.canExplain(p)
			first, committed, rolledBack := s.prepared(p), s.prepared(p), s.prepared(p)
			other := s.begin(p, s.branchOf(s.domain+"-b"))
			s.prepare(p, other)
			s.commit(p, committed)
			s.rollback(p, rolledBack)
			for _, q := range []*participant.Registered{p, s.instance()} {
				s.explained(q, first, other)
			}
		}),
}

// listed ends the script unless p lists exactly these branches of the run's term
// for the domain.
func (s *script) listed(p *participant.Registered, domain string, want ...participant.Branch) {
	if s.ended() {
		return
	}
	listing, err := p.Lister.List(s.ctx, domain)
	if err != nil {
		s.fail("list domain %q: %w", domain, err)
		return
	}
	var got, wanted []participant.XID
	for _, b := range listing.Prepared {
		if b.Domain != domain {
			s.fail("list domain %q: it holds %s", domain, b.XID())
		}
		if b.Tx.Term == s.term {
			got = append(got, b.XID())
		}
	}
	for _, b := range want {
		wanted = append(wanted, b.XID())
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		s.fail("list domain %q: it holds %q of this run, want %q", domain, got, wanted)
	}
}

// canExplain ends the script if p can't explain after all.
func (s *script) canExplain(p *participant.Registered) {
	if s.ended() {
		return
	}
	_, err := p.Explainer.Explain(s.ctx)
	s.needs(!errors.Is(err, errors.ErrUnsupported), "Explainer")
}

// explained ends the script unless p explains exactly these branches of the run's
// term.
func (s *script) explained(p *participant.Registered, want ...participant.Branch) {
	if s.ended() {
		return
	}
	shown, err := p.Explainer.Explain(s.ctx)
	if err != nil {
		s.fail("explain: %w", err)
		return
	}
	var got, wanted []participant.XID
	for _, e := range shown {
		if e.Branch.Tx.Term != s.term {
			continue
		}
		got = append(got, e.Branch.XID())
		if e.Name == "" || e.Commit == "" || e.Rollback == "" || e.Commit == e.Rollback {
			s.fail("explain %s: want its name and how it is finished either way, got %+v", e.Branch.XID(), e)
		}
	}
	for _, b := range want {
		wanted = append(wanted, b.XID())
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		s.fail("explain: it shows %q of this run, want %q", got, wanted)
	}
}

// highest ends the script unless p names b as the highest of the run's term, or
// nothing of it.
func (s *script) highest(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	listing, err := p.Lister.List(s.ctx, s.domain)
	if err != nil {
		s.fail("list domain %q: %w", s.domain, err)
		return
	}
	found := 0
	for _, id := range listing.Highest {
		if id.Term != s.term {
			continue
		}
		if found++; id != b.Tx {
			s.fail("highest of term %s: %s, want %s", s.term, id, b.Tx)
		}
	}
	if found > 1 {
		s.fail("highest of term %s: named %d times", s.term, found)
	}
	s.needs(found == 1, "memory of terms")
}

func (s *script) commitOnePhase(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	s.told(b)
	if err := s.repeat(b, p.OnePhaser.CommitOnePhase); err != nil {
		s.fail("one-phase commit %s: %w", b.XID(), err)
		return
	}
	s.finished(b)
}

func (s *script) refusesOnePhase(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	if err := s.repeat(b, p.OnePhaser.CommitOnePhase); !errors.Is(err, participant.ErrRefused) {
		s.fail("one-phase commit %s, rolled back: %v; want ErrRefused", b.XID(), err)
	}
}

func (s *script) forget(p *participant.Registered, branches ...participant.Branch) {
	if s.ended() {
		return
	}
	if err := p.Forgetter.Forget(s.ctx, branches); err != nil {
		s.fail("forget: %w", err)
	}
}
