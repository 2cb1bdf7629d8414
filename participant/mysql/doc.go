// Package mysql lets MariaDB databases, 10.5.2 and later, take part in transactions
// by their own two-phase commit, XA. [Participant.Join] enlists the database and
// returns a session in which the branch's statements run; the coordinator does the
// rest.
//
//	bank, err := mysql.New(mysql.Config{Name: "bank", DSN: "clerk:secret@tcp(db:3306)/bank"}) // once
//	...
//	err = dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
//		session, err := bank.Join(ctx, tx)
//		if err != nil {
//			return err
//		}
//		_, err = session.ExecContext(ctx, "UPDATE account SET balance = balance - ? WHERE name = ?", cents, name)
//		return err
//	})
//
// The database needs a witness table: [Schema] prints it, [Participant.CreateTable]
// creates it, [Participant.Check] says what is missing, and which settings of the
// server would lose what it promised.
//
// The adapter is tested with MariaDB 10.11. MySQL, 8.0.29 and later, is supported by
// its manual and was never run; Check says so.
//
// # The witness row
//
// What the server says of a branch proves nothing. XAER_NOTA (1397) is said of one
// that committed, of one that was rolled back by hand, of one that never was, and of
// one that is prepared and in doubt while the session that prepared it lives. And an
// XA COMMIT that was answered OK may be lost, if it met the end of that session. So
// each branch inserts a row under its XID, as its last statement. Whoever can see
// the row knows that the branch committed; whoever has to wait for it, that the
// branch is in doubt. A rollback writes the same row on its own, as a tombstone: that
// it can be written is the proof that the branch is gone.
//
//	                no row               prepared        row: committed   row: rolled back
//	Prepare         (a)                  prepared        refused          refused
//	Commit          ErrUnknownBranch     nil             nil              *HeuristicError
//	Rollback        tombstone, nil       tombstone, nil  *HeuristicError  nil
//
// (a) With its session: prepares, and votes. Without: leaves a tombstone and refuses.
//
// The tombstone is what refuses a Prepare that is late: then the row's insert fails on
// its key, and what would prepare the branch is not executed. The row is inserted last,
// and not first, so that a rollback never waits for a branch's statements. It makes a
// writer of every branch: there is no read-only vote, since the server does not say
// cheaply whether a branch changed anything, and gives up at a disconnect a prepared
// branch that did not.
//
// # Who may finish a branch
//
// The session that prepared it, at any time; so Join pins a connection until the
// outcome is told, and phase two goes there. Others only when that session is gone,
// and a moment later. A connection holds a user-level lock with a random name, which
// is in the branch's Data and in its row. Who finishes a branch from elsewhere looks
// who holds the lock; if somebody does, and the branch is listed as prepared,
// it ends that connection by KILL, waits until it has left the process list, and
// waits a little more: the server gives the branch free only after that. Numbers of
// connections are used again after a restart; names of locks are not, so nobody
// else's connection is ever ended.
//
// # What happens when
//
//   - Join takes a connection of the participant's pool and begins the branch, one
//     round trip. A new connection takes three more, to find out where it leads.
//   - Prepare: row, XA END and XA PREPARE, one fsync. MariaDB takes them as one
//     compound statement in one round trip, MySQL in three.
//   - Commit: XA COMMIT, one round trip, one fsync. The connection goes back to the pool.
//   - One-phase commit: one round trip, one fsync; three with MySQL, or two fsyncs with
//     a binary log, where the branch is prepared first: recovery from a crash does not
//     find what XA COMMIT ONE PHASE has committed in that log.
//   - Rollback: two round trips, and one fsync for the tombstone.
//   - From elsewhere: three or four round trips, and the wait; one more, and an fsync,
//     if the branch is finished already, since it may not be durably so.
//
// What does not run on the branch's own connection runs on a pool of two that the
// participant has for itself: sessions that wait for the locks of branches in doubt
// never keep the coordinator from ending those branches.
//
// # What ends a session
//
// The outcome, a rollback, and the deadline of its transaction if it was not asked for
// its vote, whatever comes first. A rollback undoes an idle session; where a
// statement runs, or rows are open, it cuts the connection and has the server end the
// session. A connection that may still have a branch is never used again.
//
// # Another database behind the same name
//
// The witness table holds an identity, drawn when the table is created, and a branch's
// Data says which one it was begun in. If the data source name leads elsewhere when a
// branch is to be finished, that is an ErrConfig until it leads back: nothing is said of
// a branch by a database that never had it. A copy of the table carries the identity
// along: a replica that was promoted is taken for the same database, and so is one
// that was restored from a dump.
//
// # Limits
//
//   - Tables of other engines than InnoDB are written at once, and not rolled back.
//   - DDL, LOCK TABLES, BEGIN and COMMIT fail in a branch.
//   - A branch in doubt keeps its locks. ALTER, DROP and TRUNCATE of its tables wait,
//     and whoever comes behind them.
//   - List names branches of sessions that live, too; see [Participant.List].
//   - MariaDB does not claim that replicas get every prepared branch. Galera is refused.
//   - Epochs (R9) are not kept. Tombstone and sweep do that work.
//   - Not behind a proxy that changes the server connection within a session.
//
// Rows stay for [Config.Retention] after Forget, or for [Config.MaxRetention] if no
// Forget comes, and are then deleted in small portions by later calls of Forget and
// List; the highest of each term stays for as long again, as the memory of that term
// (R10).
package mysql
