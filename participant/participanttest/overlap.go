package participanttest

import (
	"context"
	"errors"

	"github.com/assent-tm/assent/participant"
)

const (
	// duplicates is how many of the same call overlap.
	duplicates = 4
	// rounds is how many branches take part where chance decides what meets.
	rounds = 16
)

// overlapCases are calls that meet: at one branch, with another coordinator, or
// with the end of their context.
var overlapCases = []Case{
	scripted("duplicates-overlap", "For one branch a duplicate sent by a former coordinator may still overlap: its effects come once, and no duplicate gets an answer that is final and wrong.",
		func(s *script) {
			p, q := s.instance(), s.instance()
			finishers := []*participant.Registered{p, q}
			committed, rolledBack := s.begun(p), s.begun(p)
			for _, b := range []participant.Branch{committed, rolledBack} {
				s.all(duplicates, func(int) { s.prepareOverlapping(p, b) })
				s.prepare(p, b)
			}
			s.all(duplicates, func(i int) { s.commit(finishers[i%2], committed) })
			s.all(duplicates, func(i int) { s.rollback(finishers[i%2], rolledBack) })
			s.settled(q, committed, true)
			s.settled(q, rolledBack, false)
			s.nonePrepared(q)
		}),

	scripted("processes-overlap", "A former coordinator may finish a branch while the one that took over does, in another process: the branch goes that way once, and both are told so.",
		func(s *script) {
			p, q := s.process(), s.process()
			finishers, branches := []*participant.Registered{p, q}, s.preparedAll(p)
			s.all(2*rounds, func(i int) { s.finish(finishers[i%2], branches[i/2], commits(i/2)) })
			fresh := s.instance()
			for i, b := range branches {
				s.settled(fresh, b, commits(i))
			}
			s.nonePrepared(fresh)
		}),

	scripted("prepare-meets-rollback", "Once Rollback has returned nil the branch is rolled back, also if a Prepare was on its way.",
		func(s *script) {
			p := s.instance()
			for range rounds {
				b := s.begun(p)
				s.all(2, func(i int) {
					if i == 0 {
						// Any answer will do: the Rollback decides.
						_, _ = p.Prepare(s.ctx, b)
					} else {
						s.rollback(p, b)
					}
				})
				s.refuses(p, b, "rolled back meanwhile")
				s.deniesCommit(p, b, "rolled back")
				s.invisible(b)
			}
		}),

	scripted("branches-overlap", "The methods are called concurrently for different branches.",
		func(s *script) {
			p := s.instance()
			branches := make([]participant.Branch, rounds)
			s.all(rounds, func(i int) { branches[i] = s.prepared(p) })
			s.all(rounds, func(i int) {
				if i%2 == 0 {
					s.commit(p, branches[i])
				} else {
					s.rollback(p, branches[i])
				}
			})
			for i, b := range branches {
				s.effects(b, i%2 == 0)
			}
		}),

	scripted("stale-epoch", "A participant that keeps the highest epoch it saw per term refuses a lower one with ErrStaleEpoch (R9).",
		func(s *script) {
			s.needs(s.subject.KeepsEpoch, "epochs are kept")
			p := s.instance()
			b, late, otherTx := s.begun(p), s.begun(p), s.begun(p)
			newer := b
			newer.Epoch = 2
			s.prepare(p, newer)
			for _, q := range []*participant.Registered{p, s.instance()} {
				s.refusesEpoch(q, b, late, otherTx)
			}
			s.invisible(b)
			s.commit(p, newer)
			s.visible(b)
			s.refusesEpoch(p, b, late, otherTx)

			for _, b := range []participant.Branch{late, otherTx} {
				b.Epoch = 2
				s.rollback(p, b)
			}
			s.newTerm(2)
			s.prepared(p) // epoch 1 of another term
		}),

	scripted("prepare-cut-off", "Every method returns soon after its context ends; a Prepare that was cut off is unknown, and Rollback and, once it votes prepared, Commit stay possible (R4).",
		func(s *script) {
			p := s.instance()
			for _, during := range []bool{false, true} {
				rolledBack, retried := s.begun(p), s.begun(p)
				_ = s.cut(during, func(ctx context.Context) error { return prepareOnly(ctx, p, rolledBack) })
				s.rollback(p, rolledBack)
				s.refuses(p, rolledBack, "rolled back")
				s.invisible(rolledBack)

				_ = s.cut(during, func(ctx context.Context) error { return prepareOnly(ctx, p, retried) })
				s.invisible(retried)
				s.finishIfPrepared(p, retried)
			}
		}),

	scripted("commit-cut-off", "Every method returns soon after its context ends; a Commit that was cut off is repeated until it is acknowledged (R6).",
		func(s *script) {
			p := s.instance()
			for _, during := range []bool{false, true} {
				b := s.prepared(p)
				if err := s.cut(during, func(ctx context.Context) error { return p.Commit(ctx, b) }); err == nil {
					s.visible(b)
				} else if final(err) {
					s.fail("commit %s with an ended context: %w", b.XID(), err)
				}
				s.commit(p, b)
				s.visible(b)
			}
		}),

	scripted("rollback-cut-off", "Every method returns soon after its context ends; a Rollback that was cut off is repeated until it is acknowledged (R6).",
		func(s *script) {
			p := s.instance()
			for _, during := range []bool{false, true} {
				b := s.prepared(p)
				err := s.cut(during, func(ctx context.Context) error { return p.Rollback(ctx, b) })
				if !rolledBack(err) && final(err) {
					s.fail("rollback %s with an ended context: %w", b.XID(), err)
				}
				s.rollback(p, b)
				s.refuses(p, b, "rolled back")
				s.invisible(b)
			}
		}),
}

// prepareOverlapping sends a Prepare that overlaps with its duplicates. It may
// fail for a while, but a final answer other than prepared would be wrong for one
// of them.
func (s *script) prepareOverlapping(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	vote, err := p.Prepare(s.ctx, b)
	if vote.Valid() && vote != participant.VotePrepared {
		s.fail("prepare %s, overlapping its duplicate: vote %s, error %v", b.XID(), vote, err)
	}
}

// refusesEpoch sends everything in epoch 1 to a participant that saw epoch 2:
// the finishing calls to b, Prepare to late, a one-phase commit to otherTx.
func (s *script) refusesEpoch(p *participant.Registered, b, late, otherTx participant.Branch) {
	if s.ended() {
		return
	}
	vote, err := p.Prepare(s.ctx, late)
	if vote == participant.VotePrepared || vote == participant.VoteReadOnly || !errors.Is(err, participant.ErrStaleEpoch) {
		s.fail("prepare %s in a lower epoch: vote %s, error %v", late.XID(), vote, err)
	}
	answers := map[string]error{"commit": p.Commit(s.ctx, b), "rollback": p.Rollback(s.ctx, b)}
	if p.OnePhaser != nil {
		answers["one-phase commit"] = p.OnePhaser.CommitOnePhase(s.ctx, otherTx)
	}
	for what, err := range answers {
		if !errors.Is(err, participant.ErrStaleEpoch) {
			s.fail("%s %s in a lower epoch: %v; want ErrStaleEpoch", what, b.XID(), err)
		}
	}
}

func prepareOnly(ctx context.Context, p *participant.Registered, b participant.Branch) error {
	_, err := p.Prepare(ctx, b)
	return err
}

// finishIfPrepared asks again for the vote of a branch whose Prepare was cut off,
// and takes it at its word.
func (s *script) finishIfPrepared(p *participant.Registered, b participant.Branch) {
	if s.ended() {
		return
	}
	if vote := s.tryPrepare(p, b); vote == participant.VotePrepared {
		s.commit(p, b)
		s.visible(b)
	} else {
		s.rollback(p, b)
		s.invisible(b)
	}
}
