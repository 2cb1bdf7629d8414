package participanttest

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/assent-tm/assent/participant"
)

// basicCases are one branch's way, told in order and once.
var basicCases = []Case{
	scripted("name", "Name is constant: 1 to MaxName bytes of [A-Za-z0-9._-]; after a crash recovery finds the participant by it.",
		func(s *script) {
			p, fresh := s.instance(), s.instance()
			if !s.ended() && p.Name() != fresh.Name() {
				s.fail("two instances have the names %q and %q", p.Name(), fresh.Name())
			}
		}),

	scripted("prepare-hides", "Between Prepare and Commit the branch is able to go either way: its effects are visible to nobody.",
		func(s *script) {
			s.invisible(s.prepared(s.instance()))
		}),

	scripted("commit-shows", "Commit makes the branch's effects permanent and visible.",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.commit(p, b)
			s.visible(b)
		}),

	scripted("rollback-hides", "Rollback undoes the branch.",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.rollback(p, b)
			s.invisible(b)
		}),

	scripted("refused", "VoteRefused is a certain no, and the branch is still told to roll back.",
		func(s *script) {
			s.needs(s.subject.Refuse != nil, "Refuse")
			p := s.instance()
			b := s.refusing(p)
			s.refuses(p, b, "whose work can't be done")
			s.rollback(p, b)
			s.refuses(p, b, "refused before")
			s.deniesCommit(p, b, "refused")
			s.invisible(b)
		}),

	scripted("commit-unknown", "Commit returns nil for committed, now or earlier, and so never for a branch that was not prepared (R7).",
		func(s *script) {
			p := s.instance()
			untold, unprepared := s.branch(), s.begun(p)
			s.deniesCommit(p, untold, "never heard of")
			s.deniesCommit(p, unprepared, "begun but not prepared")
			s.invisible(untold)
			s.invisible(unprepared)
		}),

	scripted("rollback-unknown", "Rollback returns nil for a branch that was never prepared.",
		func(s *script) {
			p := s.instance()
			s.rollback(p, s.branch())
			s.rollback(p, s.begun(p))
		}),

	scripted("deadline-passed", "Deadline is meaningless after Prepare: a clock never changes a decision (R8).",
		func(s *script) {
			p := s.instance()
			committed, rolledBack := s.prepared(p), s.prepared(p)
			committed.Deadline, rolledBack.Deadline = time.Unix(1, 0), time.Time{}
			s.commit(p, committed)
			s.rollback(p, rolledBack)
			s.visible(committed)
			s.invisible(rolledBack)
		}),

	scripted("longest-id", "An XID has up to MaxXID bytes, and every one of them counts.",
		func(s *script) {
			p := s.instance()
			s.term = participant.NewTerm(1<<24-1, rand.Uint32())
			domain := s.domain + strings.Repeat("-", participant.MaxDomain-len(s.domain))
			longest := func() participant.Branch {
				b := s.branchOf(domain)
				b.Number = participant.MaxBranches - 1
				b = s.begin(p, b)
				s.prepare(p, b)
				return b
			}
			committed, rolledBack := longest(), longest()
			s.commit(p, committed)
			s.rollback(p, rolledBack)
			s.visible(committed)
			s.invisible(rolledBack)
		}),
}
