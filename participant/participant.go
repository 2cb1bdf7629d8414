package participant

import (
	"context"
	"time"
)

// Limits of the contract. They are part of what participants may rely on.
const (
	// MaxBranches is the number of branches a transaction may have; branch
	// numbers run from 0 to MaxBranches-1.
	MaxBranches = 64
	// MaxData is the number of bytes Branch.Data may hold.
	MaxData = 4 << 10
	// MaxName is the number of bytes a participant's name may have.
	MaxName = 64
)

// Participant is a service that can take part in a transaction. Its methods are
// called concurrently for different branches. For one branch the coordinator has
// at most one call in flight, but a duplicate sent by a former coordinator may
// still overlap with it.
//
// Every method must return soon after ctx ends. A panic counts as an error.
type Participant interface {
	// Name identifies the participant in the log; after a crash recovery finds
	// the participant by it. It is constant: 1 to MaxName bytes of
	// [A-Za-z0-9._-].
	Name() string

	// Prepare makes the branch able to go either way and votes.
	//
	// VotePrepared promises that Commit and Rollback both stay possible, also
	// after a crash of either side: whatever that needs is durable when Prepare
	// returns. VoteReadOnly says that the branch changed nothing, is finished,
	// and needs no further word. VoteRefused is a certain no; the error gives
	// the reason, and the branch is still told to roll back. An invalid vote
	// with an error means unknown: the branch counts as a refusal for the
	// decision and as possibly prepared for the clean-up (R4).
	//
	// Prepare is idempotent: called again for a prepared branch it votes the
	// same. For a branch that was already rolled back it refuses.
	Prepare(ctx context.Context, b Branch) (Vote, error)

	// Commit makes the branch's effects permanent and visible. It is idempotent:
	// nil means committed, now or earlier.
	//
	// A *HeuristicError says that the branch was decided otherwise; it is
	// recorded and reported, and the call is not repeated. ErrUnknownBranch says
	// that the participant knows nothing of the branch; that is never taken for
	// success (R7). Any other error means not committed yet: Commit is called
	// again, for ever (R6).
	Commit(ctx context.Context, b Branch) error

	// Rollback undoes the branch and releases what it held. It is idempotent:
	// nil means rolled back now, earlier, or never prepared; from then on a
	// Prepare of b is refused. Errors are read as for Commit, except that
	// ErrUnknownBranch counts as rolled back (R7).
	Rollback(ctx context.Context, b Branch) error
}

// Branch is one participant's part of one transaction. It is all a participant
// gets, also from a fresh process after a crash.
type Branch struct {
	// Domain is the coordinator's domain: log and participants use it to tell
	// their own branches from another installation's.
	Domain string
	// Tx is the transaction.
	Tx TxID
	// Epoch numbers the coordinators that drove Tx one after the other. It only
	// grows; a participant that can keep the highest one it saw per term refuses
	// a lower one with ErrStaleEpoch (R9). Zero in a Listing: unknown.
	Epoch uint64
	// Number tells the branches of one transaction apart: 0 to MaxBranches-1, in
	// the order of enlisting.
	Number int
	// Participant is the name of the branch's participant.
	Participant string
	// Deadline is when the transaction times out unless it is decided. A hint
	// for giving up work that was never prepared; meaningless after Prepare.
	Deadline time.Time
	// Data is what was given at Enlist: what an adapter needs to find the branch
	// again from a fresh process. At most MaxData bytes; not to be modified.
	Data []byte
}

// Lister is implemented by participants that can tell which branches they hold.
// Recovery and the orphan sweep need it to roll back branches that no log knows,
// and to find out that the log is older than what its participants saw (R10).
type Lister interface {
	// List returns what the participant holds and remembers of the domain. It
	// must return branches of exactly this domain, and all of them: the domain
	// is matched as a whole, never as a pattern.
	List(ctx context.Context, domain string) (Listing, error)
}

// Listing is what a participant holds and remembers of one domain.
type Listing struct {
	// Prepared are the branches that are prepared and were told no outcome.
	// Domain, Tx and Number are set; the rest may be zero.
	Prepared []Branch
	// Highest is, for each term the participant remembers, the highest TxID it
	// was ever told to prepare or to finish.
	Highest []TxID
}

// OnePhaser is implemented by participants that can decide a transaction by
// themselves when they are its only branch. Implement it only if the participant
// can prove afterwards which way it went.
type OnePhaser interface {
	// CommitOnePhase commits the branch without a prepare. nil means committed,
	// now or earlier; an error that Is ErrRefused means rolled back, and stays
	// so; any other error means unknown: the call is repeated, and after a crash
	// Rollback is called instead, which answers with a *HeuristicError of
	// OutcomeCommitted if the branch had committed.
	CommitOnePhase(ctx context.Context, b Branch) error
}

// Forgetter is implemented by participants that keep something for a finished
// branch which they may drop once the coordinator will not ask again.
type Forgetter interface {
	// Forget drops what is kept for these finished branches, but not what refuses
	// a late Prepare of them: that may still come. It is called once their
	// completion is durable in the coordinator's log, at most once as a rule, and
	// perhaps never: a participant bounds what it keeps by itself, too.
	Forget(ctx context.Context, branches []Branch) error
}

// Checker is implemented by participants that can tell whether the service
// behind them is able to take part at all.
type Checker interface {
	// Check returns nil, or an error that Is ErrConfig and names the exact
	// setting to change.
	Check(ctx context.Context) error
}

// Explainer is implemented by participants whose service can be asked for all that
// it holds prepared, and be told by hand to finish it. It is for operators: the
// coordinator shows it, and acts on nothing of it.
type Explainer interface {
	// Explain returns what is prepared where this participant works, whoever did: in
	// any domain, and also what no coordinator of Assent's did. An error that Is
	// errors.ErrUnsupported says that the service can't be asked after all.
	Explain(ctx context.Context) ([]Explanation, error)
}

// Explanation is what a service shows of a prepared branch.
type Explanation struct {
	// Name is what the service calls it.
	Name string
	// Branch has Domain, Tx and Number; it is the zero value if the name is not that
	// of a branch.
	Branch Branch
	// Commit and Rollback finish it: what an operator gives to the service's own
	// client, as it is. They also leave behind what the participant needs to tell the
	// branch's coordinator later what became of it.
	Commit, Rollback string
}

// Enlister is all that an adapter needs of a running transaction. The embedded
// transaction handle and the remote client's both satisfy it.
type Enlister interface {
	// ID returns the transaction's id.
	ID() TxID
	// Enlist adds a branch for p with data and returns it.
	Enlist(ctx context.Context, p Participant, data []byte) (Branch, error)
}
