// Package history reads what was seen of a coordinator, its participants and its
// clients, and tells which of the promises were broken. It is a second opinion: it
// imports nothing of ours, so a mistake in the coordinator's own words can't hide
// here. Recorders of any language write what it reads.
//
// A history is JSON Lines in UTF-8: one event a line, in one total order, the line
// number is the event's name. Each line is a flat object; "kind" says which of the
// fields below it must and may have, and "note" (free text) is allowed on all.
//
//	kind       fields                      what was seen
//	history    version, [sees]             the first line; version is 1
//	begin      tx                          Begin returned this id
//	enlist     tx branch participant       the branch is part of the transaction
//	preparing  tx                          begun and enlisted are durable
//	prepare    tx branch                   Prepare was sent
//	vote       tx branch vote              prepared, read-only, refused; unknown: the call failed
//	delegated  tx                          durable: the only branch decides
//	decided    tx outcome [lazy]           the decision is durable; lazy: appended only
//	tell       tx branch outcome [one_phase]  Commit or Rollback was sent
//	ack        tx branch outcome           the branch has ended so
//	heuristic  tx branch outcome           the branch decided alone; unknown is a hazard
//	operator   tx [branch]                 an operator's word settled the branch, or all
//	deadline   tx                          the transaction's deadline passed
//	forget     tx                          the record was dropped, or Forget was sent
//	effect     tx branch                   the branch's work was applied, once for each line
//	call       call tx op                  a client asks: commit, rollback, get
//	answer     call outcome                and is told; unknown: it learned nothing
//	inquiry    tx branch outcome           a participant that asked was told
//	recover    tx outcome                  what replay of the log says; undecided too
//	crash      [participant]               it died; without a participant a coordinator
//	start      [participant]               it started, or took over
//	fault      [participant]               any other failure begins
//	repaired                               no failure is left
//	settled                                and all that was to end has had its time
//	planted    participant xid owner       a prepared branch of no live transaction: ours, foreign
//	finished   participant xid outcome     such a branch was seen to end
//	left       participant xid             still prepared, after settled
//	listed     participant count           the end of that list, and its length
//	witness    participant tx              the transaction's row was found, after settled
//	witnesses  participant count           the end of those rows, and their number
//	sum        sum                         the total over all participants, when settled
//
// An outcome is commit or rollback; undecided and unknown where the table says so.
//
// "sees" says what the recorder misses none of: "log" (preparing, delegated and
// decided lines) and "effects". Without them, what rests on their absence is not
// judged, and the first outcome that is told counts as the decision.
//
// The order must be one that can have happened: a line that others depend on
// (preparing, delegated, decided, vote, ack, effect) is written no later than anyone
// hears of it, and what is sent (prepare, tell) no earlier than it is sent. A decision
// whose line is missing because the process died first is known from recover.
// A client that gives a Commit up, its context ended, writes a rollback call as well.
//
// Three things look like mistakes and are none: a read-only branch is told nothing;
// after delegated the branch's own answer is the decision; and when every branch voted
// read-only, a crash may lose the lazily written outcome, after which it is rolled back.
package history
