// Package participant is the contract between the coordinator and the services
// that take part in its transactions.
//
// A service joins by implementing [Participant]: prepare, commit, rollback. The
// coordinator asks every enlisted participant to prepare its branch; when all
// vote [VotePrepared] (or [VoteReadOnly]) it decides commit, else rollback, makes
// the decision durable, and then tells every branch until it acknowledges.
// Between its vote and that word a branch is in doubt: it must be able to go
// either way, however long it takes and whoever crashes.
//
// The three obligations that keep a transaction atomic:
//
//   - A vote of VotePrepared is a promise that survives a crash of the
//     participant: Commit and Rollback both stay possible.
//   - Commit and Rollback are idempotent and may come from a fresh process that
//     knows nothing but the [Branch].
//   - After Rollback a late Prepare of the same branch is refused.
//
// The package participanttest checks these and more for any participant.
// [Func] makes a participant of three functions; adapters for resource managers
// live in the folders beside this one.
package participant
