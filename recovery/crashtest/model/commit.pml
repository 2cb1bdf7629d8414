/*
 * Assent's protocol for one transaction, for the model checker spin.
 *
 *	spin -a commit.pml && gcc -O1 -DSAFETY -o pan pan.c && ./pan -m100000
 *
 * -DBRANCHES=2, -DCOORDINATORS=2 and -DCRASHES=1 (of participants, all together) size it;
 * -DONEPHASE with one branch commits in one phase; -DQUIET has no faults, and asserts that
 * what all vote for is committed. With gcc -DNP and pan -l, spin looks for runs that never end.
 * Each -DBUG_... breaks one rule, and spin must find an error, also with -DONLY_OUTCOMES;
 * -DNEVER_... asserts what is false, to show that it is reached. The Go test beside this
 * file runs all of them.
 *
 * What is where:
 *
 *	R1   Log before tell: SEALING, DECIDING and COMPLETING, which wait for the fsync.
 *	R2   The first durable writer decides: PREPARING, where votes, refusals, deadlines and
 *	     requests compete; DECIDING takes nobody's word but the log's.
 *	R3   No decision, no commit: LISTING. Delegated records: DELEGATING, DELEGATED.
 *	R4   A rollback is told to all but those that voted read-only: tell.
 *	R5   Three answers of a write: fsyncFails. Nothing is continued in place: OPENING.
 *	R6   A message once sent can be delivered for ever: net.
 *	R7   "Unknown" to a commit is no acknowledgement: Participant, under C.
 *	R8   A clock is nothing but a rollback in ACTIVE and PREPARING.
 *	R9   Fencing: owner. Takeover and recovery are the same: OFF, OPENING.
 *	R10  Rollback by absence after a list was read, safe mode: LISTING.
 *	R11  Former and new coordinators run the same steps.
 *
 * The network keeps all that was ever sent. A message may be delivered late, twice, out of
 * order, or not until everything else has stopped, which stands for lost and sent again. An answer is
 * with the coordinator when it is given; that it may be given late, and be acted upon later,
 * stands for its way.
 *
 * The log is a page cache: a write can be read at once and is durable with its fsync. A kill
 * leaves what is cached, a power cut keeps any part of it, a failed fsync leaves it cached,
 * durable or gone. Participants have such caches, too.
 *
 * What is abstracted away: other transactions, but for the one that proves an old log to be
 * old; batches, segments and torn writes (the log's own tests have them); time; pauses
 * between retries; bounds (R12); retention and marks (R13), so a prepare later than Forget is
 * refused here, and swept there; decisions by hand, and participants that decide alone;
 * epochs in requests: these participants know none, and their tombstones have to do. An answer that
 * changes nothing is not sent. The last coordinator does not crash: then it has to finish.
 */

#ifndef BRANCHES
#define BRANCHES 2
#endif
#ifndef COORDINATORS
#define COORDINATORS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifdef QUIET
#define LAST 0
#else
#define LAST (COORDINATORS - 1)
#endif

/* How far a record is on its way to the disk. */
#define NONE 0
#define CACHED 1
#define DURABLE 2

/* Decisions. */
#define COMMIT 1
#define ROLLBACK 2

/* What a branch is. UNKNOWN: its participant lost the work in a crash. */
mtype = { WORKING, UNKNOWN, PREPARED, READONLY, COMMITTED, ROLLEDBACK, FORGOTTEN }

/* Where a coordinator is. */
mtype = { OFF, OPENING, LISTING, ACTIVE, SEALING, PREPARING, DECIDING, TELLING, DELEGATING, DELEGATED, COMPLETING, DONE, SAFE, DEAD }

/* Requests, as bits of net; answers, as bits of answers. */
#define P 1
#define C 2
#define R 4
#define O 8
#define F 16
#define YES 1
#define NO 2
#define RO 4
#define ACKC 8
#define ACKR 16

/* The log. What is begun and enlisted rides with preparing. */
byte preparing, delegated, decided, completed;
byte decision, readOnly; /* of decided: the decision, and a bit for each read-only vote */
byte epoch;
bit old; /* it was replaced by an older copy */

mtype phase[COORDINATORS] = OFF;
byte started = 1;
byte net[COORDINATORS * BRANCHES], answers[COORDINATORS * BRANCHES];
#define to(e, i) net[(e) * BRANCHES + (i)]
#define from(e, i) answers[(e) * BRANCHES + (i)]

mtype branch[BRANCHES] = WORKING, disk[BRANCHES] = WORKING;
byte crashes = CRASHES;

/* What any client was told. */
bit toldCommit, toldRollback;

/* R9: the store refuses the writes of a coordinator that was taken over. */
#ifdef BUG_STALE_EPOCH
#define owner(e) true
#else
#define owner(e) (epoch == (e))
#endif

/* R10: what participants list shows that the log is older than they. */
#ifdef BUG_NO_LIST
#define provenOld false
#else
#define provenOld old
#endif

/* R3: what it is without a decision. */
#ifdef BUG_PRESUME_COMMIT
#define PRESUMED COMMIT
#else
#define PRESUMED ROLLBACK
#endif

#if BRANCHES == 1
#define all(is) is(0)
#define allOf(e, is) is(e, 0)
#define some(s) (branch[0] == s)
#elif BRANCHES == 2
#define all(is) (is(0) && is(1))
#define allOf(e, is) (is(e, 0) && is(e, 1))
#define some(s) (branch[0] == s || branch[1] == s)
#else
#define all(is) (is(0) && is(1) && is(2))
#define allOf(e, is) (is(e, 0) && is(e, 1) && is(e, 2))
#define some(s) (branch[0] == s || branch[1] == s || branch[2] == s)
#endif
#define ALLREADONLY ((1 << BRANCHES) - 1)

#define silent(e, i) (!(from(e, i) & (YES | NO | RO)))
#define votedYes(e, i) (from(e, i) & (YES | RO))
#define skips(i) (readOnly & (1 << (i)))
#define ended(e, i) (skips(i) || (from(e, i) & (decision == COMMIT -> ACKC : ACKR)))
#define mayCommit(i) (disk[i] == PREPARED || disk[i] == READONLY || disk[i] == COMMITTED || disk[i] == FORGOTTEN)
#define isReadOnly(i) (disk[i] == READONLY)
#define isForgotten(i) (branch[i] == FORGOTTEN)
#define isFinished(i) (branch[i] == disk[i] && branch[i] != PREPARED)

/* Agreement, and no reversal. Who voted read-only has nothing to agree on. */
inline agree() {
	assert(!(some(COMMITTED) && some(ROLLEDBACK)));
	assert(!(toldCommit && some(ROLLEDBACK)));
	assert(!(toldRollback && some(COMMITTED)));
	assert(!(toldCommit && toldRollback) || readOnly == ALLREADONLY || all(isReadOnly))
}

inline toldClient(d) {
	if
	:: d == COMMIT -> toldCommit = 1
	:: else -> toldRollback = 1
	fi;
	agree()
}

inline send(e, i, m) { to(e, i) = to(e, i) | m }

/* Nothing rests on what is not durable (R1). ONLY_OUTCOMES leaves this out, so that what
   breaks the rule is found by what comes of it. */
inline durable(rec) {
#ifndef ONLY_OUTCOMES
	assert(rec == DURABLE)
#else
	skip
#endif
}

/* tell is the fan-out of a decision, to all but those that voted read-only (R4). */
inline tell(e, d) {
	durable(decided);
	toldClient(d);
	i = 0;
	do
	:: i < BRANCHES ->
		if
		:: skips(i)
		:: else -> send(e, i, (d == COMMIT -> C : R))
		fi;
		i++
	:: else -> break
	od;
	i = 0;
	phase[e] = TELLING
}

inline sendAll(e, m) {
	i = 0;
	do
	:: i < BRANCHES -> send(e, i, m); i++
	:: else -> break
	od;
	i = 0
}

/* readOnlyVotes counts them into ro, a bit for each. */
inline readOnlyVotes(e) {
	ro = 0;
	i = 0;
	do
	:: i < BRANCHES -> ro = ro | ((from(e, i) & RO) -> 1 << i : 0); i++
	:: else -> break
	od;
	i = 0
}

/* write puts the decision into the page cache. R2: of one coordinator, one decision. */
inline write(e, d) {
	decision = d;
	decided = CACHED;
#ifdef BUG_READONLY_AS_PREPARED
	readOnly = 0;
#else
	readOnlyVotes(e);
	readOnly = ro;
	ro = 0;
#endif
	phase[e] = DECIDING;
#ifdef BUG_TELL_BEFORE_FSYNC
	tell(e, d)
#endif
}

/* fsyncFails: the record may be anything after it. The coordinator stops (R5). */
inline fsyncFails(e, rec) {
	if
	:: rec = DURABLE
	:: rec = CACHED
	:: rec = NONE
	fi;
	phase[e] = DEAD
}

inline clean() {
	if
	:: decided == NONE -> decision = 0; readOnly = 0
	:: else
	fi
}

/* cut is what a power cut leaves of a record. */
inline cut(rec) {
	if
	:: rec == CACHED -> rec = NONE
	:: rec == CACHED -> rec = DURABLE
	:: rec != CACHED
	fi
}

inline flush(rec) {
	if
	:: rec == CACHED -> rec = DURABLE
	:: else
	fi
}

proctype Coordinator(byte e) {
	byte i = 0, ro = 0;
end:	do
	/* Another coordinator starts, after a crash or as a rival: it fences the former one (R9)
	   and reads what can be read, also what is only cached. */
	:: atomic { phase[e] == OFF && started == e && phase[e - 1] != DONE && phase[e - 1] != SAFE ->
		started++;
		epoch = e;
		if
		:: true
		/* Somebody put an older log in place of one that held the decision; later transactions
		   are known at both participants. */
		:: phase[e - 1] == DEAD && decided == DURABLE && completed == NONE && old == 0 ->
			old = 1; decided = NONE; clean()
		fi;
		phase[e] = OPENING }

	/* R5: what was read is copied and fsynced before anything rests on it. */
	:: atomic { phase[e] == OPENING && owner(e) ->
#ifndef BUG_RECOVER_FROM_CACHE
		flush(preparing); flush(delegated); flush(decided); flush(completed);
#endif
		if
		:: completed != NONE -> sendAll(e, F); phase[e] = DONE
		:: completed == NONE && decided != NONE -> tell(e, decision)
		:: else -> phase[e] = LISTING
		fi }

	/* R10: what rests on absence waits for a participant's list, which may prove the log old.
	   Branches that the log does not know were not asked to prepare (R1): they give up by themselves. */
	:: atomic { phase[e] == LISTING && owner(e) ->
		if
		:: provenOld -> phase[e] = SAFE
		:: !provenOld && delegated != NONE -> sendAll(e, R); phase[e] = DELEGATED /* R3: the branch may have decided */
		:: !provenOld && delegated == NONE && preparing != NONE -> write(e, PRESUMED) /* R3: no decision, no commit */
		:: !provenOld && delegated == NONE && preparing == NONE -> toldClient(ROLLBACK); phase[e] = DONE
		fi }

#ifdef ONEPHASE
	:: atomic { phase[e] == ACTIVE && owner(e) -> delegated = CACHED; phase[e] = DELEGATING }
	:: atomic { phase[e] == DELEGATING && owner(e) -> delegated = DURABLE; durable(delegated); send(e, 0, O); phase[e] = DELEGATED }
	:: atomic { phase[e] == DELEGATING && owner(e) && e < LAST -> fsyncFails(e, delegated) }
#ifdef BUG_ONEPHASE_TIMEOUT
	:: atomic { phase[e] == DELEGATED && owner(e) -> write(e, ROLLBACK) }
#endif
#else
	:: atomic { phase[e] == ACTIVE && owner(e) -> preparing = CACHED; phase[e] = SEALING }
#endif
	/* R3: the only branch's answer is the decision. Nothing is forced: asked again, it answers the same. */
	:: atomic { phase[e] == DELEGATED && owner(e) && (from(e, 0) & (ACKC | ACKR)) ->
		decision = ((from(e, 0) & ACKC) -> COMMIT : ROLLBACK);
		decided = CACHED; completed = CACHED;
		toldClient(decision);
		phase[e] = COMPLETING }

	/* R1: the branches are in the log before the first is prepared. */
	:: atomic { phase[e] == SEALING && owner(e) ->
#ifndef BUG_PREPARE_BEFORE_FSYNC
		preparing = DURABLE;
#endif
		durable(preparing);
		sendAll(e, P);
		phase[e] = PREPARING }
	:: atomic { phase[e] == SEALING && owner(e) && e < LAST -> fsyncFails(e, preparing) }

	/* R2: votes and everything that wants a rollback compete. A deadline and a request may come
	   at any time, and a refusal or a vote that is unknown (R4, R8) is no different. */
#ifndef QUIET
	:: atomic { (phase[e] == ACTIVE || phase[e] == PREPARING) && owner(e) -> write(e, ROLLBACK) }
#endif
#ifdef BUG_COMMIT_WITHOUT_A_VOTE
	:: atomic { phase[e] == PREPARING && owner(e) && votedYes(e, 0) -> write(e, COMMIT) }
#endif
	:: atomic { phase[e] == PREPARING && owner(e) && allOf(e, votedYes) ->
		readOnlyVotes(e);
		if
		:: ro == ALLREADONLY -> /* lazily: nobody depends on it */
			decision = COMMIT; decided = CACHED; completed = CACHED; readOnly = ALLREADONLY;
			toldClient(COMMIT);
			phase[e] = COMPLETING
		:: else -> write(e, COMMIT)
		fi;
		ro = 0 }

	/* R1: the decision is durable before anybody is told. */
	:: atomic { phase[e] == DECIDING && owner(e) ->
		decided = DURABLE;
		tell(e, decision) }
	:: atomic { phase[e] == DECIDING && owner(e) && e < LAST ->
#ifdef BUG_UNKNOWN_IS_ABORT
		if
		:: decided = DURABLE
		:: decided = NONE; clean()
		fi;
		tell(e, ROLLBACK)
#else
		fsyncFails(e, decided); clean()
#endif
		}
#ifdef BUG_DEADLINE_RACES_FSYNC
	:: atomic { phase[e] == DECIDING && owner(e) -> tell(e, ROLLBACK) }
#endif

	/* R6: until all have acknowledged. */
	:: atomic { phase[e] == TELLING && owner(e) && allOf(e, ended) ->
		completed = CACHED;
		phase[e] = COMPLETING;
#ifdef BUG_FORGET_BEFORE_FSYNC
		sendAll(e, F)
#endif
		}
#ifdef BUG_COMPLETED_BEFORE_ACKNOWLEDGED
	:: atomic { phase[e] == TELLING && owner(e) && ended(e, 0) -> completed = CACHED; phase[e] = COMPLETING }
#endif

	/* R1: forget only what is durably completed. */
	:: atomic { phase[e] == COMPLETING && owner(e) ->
		completed = DURABLE; decided = DURABLE;
		sendAll(e, F);
		phase[e] = DONE }
	:: atomic { phase[e] == COMPLETING && owner(e) && e < LAST -> fsyncFails(e, completed) }

	/* R9: a fenced coordinator stops when it wants to write. */
	:: atomic { !owner(e) && phase[e] != OFF && phase[e] != DONE && phase[e] != SAFE && phase[e] != DEAD &&
		phase[e] != TELLING && phase[e] != DELEGATED -> phase[e] = DEAD }
	od
}

/* commits is what a branch does with Commit, rollsBack with Rollback. */
inline commits(i) {
	branch[i] = COMMITTED;
#ifndef ONEPHASE
	assert(all(mayCommit)); /* commit only if all voted for it */
#endif
	agree()
}

inline rollsBack(i) {
	branch[i] = ROLLEDBACK;
	agree()
}

#define asked(e, i, m) (to(e, i) & (m))
#define lacks(e, i, a) (!(from(e, i) & (a)))
#define onDisk(i, s) (branch[i] == s && disk[i] == s)
#define answer(e, i, a) from(e, i) = from(e, i) | a

/* Those who hear the answers of a participant. Nobody else's are kept. */
#define hears(e) (phase[e] != DEAD && phase[e] != DONE)

/* Whose requests nobody repeats: they may be lost. */
#define gone(e) (phase[e] == DEAD || phase[e] == DONE || phase[e] == SAFE)

/* deliver is one request of coordinator e at branch i. What changes nothing does not happen. */
inline deliver(e, i) {
	if
	/* Prepare: yes once it is durable, and no for ever after a rollback or a crash. */
	:: asked(e, i, P) && branch[i] == WORKING ->
		if
		:: branch[i] = PREPARED
		:: branch[i] = READONLY
#ifndef QUIET
		:: branch[i] = ROLLEDBACK
#endif
		fi
#ifdef BUG_YES_BEFORE_FSYNC
	:: asked(e, i, P) && hears(e) && branch[i] == PREPARED && silent(e, i) -> answer(e, i, YES)
#else
	:: asked(e, i, P) && hears(e) && onDisk(i, PREPARED) && silent(e, i) -> answer(e, i, YES)
#endif
	:: asked(e, i, P) && hears(e) && onDisk(i, READONLY) && silent(e, i) -> answer(e, i, RO)
	:: asked(e, i, P) && hears(e) && (branch[i] == UNKNOWN || branch[i] == ROLLEDBACK) && silent(e, i) -> answer(e, i, NO)
#ifdef BUG_NO_TOMBSTONE
	:: asked(e, i, P) && branch[i] == ROLLEDBACK -> branch[i] = PREPARED
#endif

	/* Commit. */
	:: asked(e, i, C) && (branch[i] == PREPARED || branch[i] == ROLLEDBACK) -> commits(i)
	:: asked(e, i, C) && hears(e) && onDisk(i, COMMITTED) && lacks(e, i, ACKC) -> answer(e, i, ACKC)
#ifdef BUG_UNKNOWN_IS_ACKNOWLEDGED
	/* R7: a service may not know a prepared branch for a while. */
	:: asked(e, i, C) && hears(e) && onDisk(i, PREPARED) && lacks(e, i, ACKC) -> answer(e, i, ACKC)
#endif

	/* Rollback: not knowing the branch is a success (R7). */
	:: asked(e, i, R) && (branch[i] == WORKING || branch[i] == UNKNOWN || branch[i] == PREPARED) -> rollsBack(i)
	:: asked(e, i, R) && hears(e) && (onDisk(i, ROLLEDBACK) || onDisk(i, READONLY) || branch[i] == FORGOTTEN) && lacks(e, i, ACKR) ->
		answer(e, i, ACKR)
	:: asked(e, i, R) && hears(e) && onDisk(i, COMMITTED) && lacks(e, i, ACKC) ->
#ifndef ONEPHASE
		assert(false);
#endif
		answer(e, i, ACKC)

#ifdef ONEPHASE
	:: asked(e, i, O) && branch[i] == WORKING -> commits(i)
	:: asked(e, i, O) && (branch[i] == WORKING || branch[i] == UNKNOWN) -> rollsBack(i)
	:: asked(e, i, O) && hears(e) && onDisk(i, COMMITTED) && lacks(e, i, ACKC) -> answer(e, i, ACKC)
	:: asked(e, i, O) && hears(e) && onDisk(i, ROLLEDBACK) && lacks(e, i, ACKR) -> answer(e, i, ACKR)
#endif

	:: asked(e, i, F) && (onDisk(i, COMMITTED) || onDisk(i, ROLLEDBACK)) -> branch[i] = FORGOTTEN; disk[i] = FORGOTTEN
	fi
}

proctype Participant(byte i) {
end:	do
	:: atomic { branch[i] != disk[i] -> disk[i] = branch[i] }
	:: atomic { crashes > 0 && (branch[i] != disk[i] || branch[i] == WORKING) ->
		crashes--;
		if
		:: disk[i] == WORKING -> branch[i] = UNKNOWN; disk[i] = UNKNOWN
		:: else -> branch[i] = disk[i]
		fi }
	:: atomic { gone(0) && to(0, i) -> to(0, i) = 0 }
	:: atomic { gone(1) && to(1, i) -> to(1, i) = 0 }
	:: atomic { deliver(0, i) }
	:: atomic { deliver(1, i) }
#if COORDINATORS > 2
	:: atomic { gone(2) && to(2, i) -> to(2, i) = 0 }
	:: atomic { deliver(2, i) }
#endif
	od
}

#define alive(e) (phase[e] != OFF && phase[e] != DONE && phase[e] != SAFE && phase[e] != DEAD)
#if COORDINATORS > 2
#define anyAlive (alive(0) || alive(1))
#else
#define anyAlive alive(0)
#endif

inline dies(e) {
	if
	:: alive(e) -> phase[e] = DEAD
	:: else
	fi
}

/* Kills, and power cuts, while another coordinator is to come. */
proctype Faults() {
end:	do
	:: atomic { alive(0) -> phase[0] = DEAD }
#if COORDINATORS > 2
	:: atomic { alive(1) -> phase[1] = DEAD }
#endif
	:: atomic { started < COORDINATORS &&
		(anyAlive || preparing == CACHED || delegated == CACHED || decided == CACHED || completed == CACHED) ->
		dies(0);
#if COORDINATORS > 2
		dies(1);
#endif
		cut(preparing); cut(delegated); cut(decided);
		if
		:: decided == NONE -> completed = NONE /* appended after it */
		:: else -> cut(completed)
		fi;
		clean() }
	od
}

#define last (started - 1)

/* Termination: when nothing can happen any more, the newest coordinator is done and no branch
   is left in doubt. That everything comes to such an end is for the search for cycles to say. */
proctype Monitor() {
end:	timeout ->
	assert(phase[last] == DONE || phase[last] == SAFE);
	assert(phase[last] == SAFE || all(isFinished));
#ifdef QUIET
	assert(toldCommit);
#endif
#ifdef NEVER_COMMITS
	assert(!all(isForgotten) || !toldCommit)
#endif
#ifdef NEVER_SAFE_MODE
	assert(phase[last] != SAFE)
#endif
}

init {
	atomic {
		phase[0] = ACTIVE;
		run Coordinator(0);
#ifndef QUIET
		run Coordinator(1);
#if COORDINATORS > 2
		run Coordinator(2);
#endif
		run Faults();
#endif
		run Participant(0);
#if BRANCHES > 1
		run Participant(1);
#endif
#if BRANCHES > 2
		run Participant(2);
#endif
		run Monitor()
	}
}
