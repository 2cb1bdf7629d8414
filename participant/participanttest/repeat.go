package participanttest

// repeatCases are calls that come twice, too late, or after the opposite one.
var repeatCases = []Case{
	scripted("prepare-twice", "Prepare is idempotent: called again for a prepared branch it votes the same.",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.prepare(p, b)
			s.commit(p, b)
			s.visible(b)
		}),

	scripted("commit-twice", "Commit is idempotent: nil means committed, now or earlier.",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.commit(p, b)
			s.commit(p, b)
			s.commit(s.instance(), b)
			s.visible(b)
		}),

	scripted("rollback-twice", "Rollback is idempotent: nil means rolled back, now or earlier.",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.rollback(p, b)
			s.rollback(p, b)
			s.rollback(s.instance(), b)
			s.invisible(b)
		}),

	scripted("prepare-after-rollback", "After Rollback a late Prepare of the same branch is refused, also by a fresh process.",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.rollback(p, b)
			s.refuses(p, b, "rolled back")
			s.refuses(s.instance(), b, "rolled back by another instance")
			s.invisible(b)
		}),

	scripted("rollback-before-prepare", "A Rollback that overtakes its Prepare stands: from then on a Prepare of the branch is refused.",
		func(s *script) {
			p := s.instance()
			begun := s.begun(p)
			s.rollback(p, begun)
			s.refuses(p, begun, "rolled back before it was prepared")

			b := s.branch()
			s.rollback(s.instance(), b)
			b = s.lateWork(p, b)
			s.refuses(p, b, "rolled back before it was begun")
			s.invisible(begun)
			s.invisible(b)
		}),

	scripted("prepare-after-commit", "VotePrepared promises that Rollback is possible: a late Prepare of a committed branch gets none, and does nothing.",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.commit(p, b)
			s.promisesNothing(p, b)
			s.promisesNothing(s.instance(), b)
			s.commit(p, b)
			s.visible(b)
		}),

	scripted("rollback-after-commit", "Rollback of a committed branch is answered with what became of it, and changes nothing (R2).",
		func(s *script) {
			p := s.instance()
			b := s.prepared(p)
			s.commit(p, b)
			s.deniesRollback(p, b)
			s.deniesRollback(s.instance(), b)
			s.visible(b)
		}),

	scripted("commit-after-rollback", "Commit of a branch that was rolled back is never nil, and changes nothing (R2).",
		func(s *script) {
			p := s.instance()
			b, unprepared := s.prepared(p), s.branch()
			s.rollback(p, b)
			s.rollback(p, unprepared)
			s.deniesCommit(p, b, "rolled back")
			s.deniesCommit(s.instance(), b, "rolled back by another instance")
			s.deniesCommit(p, unprepared, "rolled back before it was prepared")
			s.invisible(b)
			s.invisible(unprepared)
		}),
}

// elsewhereCases finish a branch where it was not prepared.
var elsewhereCases = []Case{
	scripted("commit-from-fresh", "Commit may come from a fresh process that knows nothing but the Branch.",
		func(s *script) {
			b := s.prepared(s.instance())
			s.commit(s.instance(), b)
			s.visible(b)
		}),

	scripted("rollback-from-fresh", "Rollback may come from a fresh process that knows nothing but the Branch.",
		func(s *script) {
			b := s.prepared(s.instance())
			fresh := s.instance()
			s.rollback(fresh, b)
			s.invisible(b)
			s.deniesCommit(fresh, b, "rolled back")
		}),
}
