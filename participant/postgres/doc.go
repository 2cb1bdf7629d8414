// Package postgres lets PostgreSQL databases, 14 and later, take part in
// transactions by their own two-phase commit, PREPARE TRANSACTION. [Participant.Join]
// enlists the database and returns a session in which the branch's statements run;
// the coordinator does the rest.
//
//	pg, err := postgres.New(ctx, postgres.Config{Name: "orders", Pool: pool}) // once
//	...
//	err = dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
//		session, err := pg.Join(ctx, tx)
//		if err != nil {
//			return err
//		}
//		_, err = session.Exec(ctx, "UPDATE stock SET n = n - 1 WHERE item = $1", item)
//		return err
//	})
//
// The server needs max_prepared_transactions above zero, and the database a witness
// table: [Schema] prints it, [Participant.CreateTable] creates it,
// [Participant.Check] says what is missing.
//
// # The witness row
//
// The server forgets a branch the moment it is finished, and says "does not exist"
// of one that committed, of one that somebody rolled back by hand, and of one that
// never was. So each branch inserts a row under its XID, as its last statement and
// inside its own transaction. Whoever can see the row knows that the branch
// committed. A rollback writes the same row on its own, as a tombstone.
//
//	                no row               prepared        row: committed   row: rolled back
//	Prepare         (a)                  prepared        refused          refused
//	Commit          ErrUnknownBranch     nil             nil              *HeuristicError
//	Rollback        tombstone, nil       tombstone, nil  *HeuristicError  nil
//
// (a) With its session: prepares, and votes. Without: leaves a tombstone and refuses.
//
// The tombstone is what refuses a Prepare that is late. The statements of a Prepare
// may be in the server's socket when its client is gone, and run after the
// rollback; then the row's insert fails on the tombstone's key, and the server skips
// what follows in the same message. If the insert came first, the tombstone's insert
// waits for it, and rolls back what it then finds prepared. The row is inserted last,
// and not first, so that a rollback never waits for a branch's statements, and a
// branch that only reads writes nothing. A transaction that holds out with its row
// inserted and not prepared, since the network lost its client perhaps, is found by
// the advisory lock that the insert takes along, and its session is ended.
//
// # What happens when
//
//   - Join takes a connection of the pool. It makes no round trip, but a few the first
//     time with each connection, to identify the server and prepare a statement.
//   - The first statement takes BEGIN along. The others are pgx's as they are.
//   - Prepare: row and PREPARE TRANSACTION in one round trip, one fsync. One round trip
//     more if no statement's answer told that it wrote; if none did, COMMIT follows and
//     the vote is read-only.
//   - Commit: COMMIT PREPARED, one round trip, one fsync.
//   - One-phase commit: row and COMMIT in one round trip, one fsync. One round trip more as
//     for Prepare.
//   - Rollback: two round trips and two fsyncs, to roll back and for the tombstone.
//
// A prepared branch keeps its connection until it is told its decision, or for a
// second, so that branches are finished as concurrently as they were prepared, and
// share the server's fsyncs; while a Join waits for a connection of the pool, for 50 ms.
// Everything else runs on a pool of two connections that the participant has for
// itself: finishing a branch after that time, or in another process, tombstones, lists. Sessions that wait for the locks of branches in doubt may
// fill the user's pool; they never keep the coordinator from ending those branches.
// What has begun so goes on when its caller's context ends: nobody breaks a connection
// that others wait for.
//
// With database/sql, [Participant.JoinSQL], BEGIN is a round trip of its own, and
// Prepare always asks.
//
// # What ends a session
//
// The vote, a rollback, or the deadline of its transaction, whatever comes first. A
// rollback undoes an idle session and returns its connection to the pool; where a
// statement runs, or rows are open, it cuts the connection and has the server end
// the session, and returns when the locks are gone. A connection in any other state
// than idle and outside of a transaction never goes back, nor does one that DEALLOCATE
// ALL has cost the participant's own statement. What a session has set
// beyond its transaction (SET, session locks, prepared statements) stays, as in any
// pool.
//
// # Another server behind the same name
//
// A branch's Data holds the system identifier of the server and the oid of the
// database. If the pool connects to something else when a branch is to be finished,
// that is an ErrConfig until it is pointed back: nothing is said of a branch by a
// server that never had it. A physical standby that was promoted is the same server.
//
// # Limits
//
//   - PostgreSQL refuses to prepare a transaction that used temporary objects, LISTEN,
//     NOTIFY, cursors WITH HOLD or an exported snapshot, or that wrote through
//     postgres_fdw. NOTIFY alone writes nothing: such a branch is committed with its
//     read-only vote.
//   - A branch in doubt keeps its locks, and keeps VACUUM from cleaning up behind it.
//   - Whoever finishes a branch has to be the role that prepared it, or a superuser: a
//     branch that has said SET ROLE is refused, unless the pool does the same for every
//     connection.
//   - COMMIT, ROLLBACK and PREPARE TRANSACTION in a session are not to be run; the
//     branch is refused then, also if another transaction was begun, though a COMMIT has
//     happened. RESET ALL is taken for one of them: a setting of the transaction,
//     assent.branch, is what tells.
//   - Unlogged tables are emptied by a crash, prepared or not.
//   - An asynchronous standby that is promoted may lack branches that were prepared, or
//     committed.
//   - Epochs (R9) are not kept: a condition on COMMIT PREPARED would cost a round trip.
//     Tombstone and sweep do that work.
//   - Not behind a pooler that changes the server connection between transactions.
//
// Rows stay for [Config.Retention] after Forget, or for [Config.MaxRetention] if no
// Forget comes, and are then deleted in small portions by later calls of Forget; the
// highest of each term stays for as long again, as the memory of that term (R10).
package postgres
