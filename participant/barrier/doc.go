// Package barrier makes a participant of any service that keeps its state in a
// SQL database. The service writes three functions:
//
//   - Reserve checks that the work can be done and sets aside what it needs, so
//     that it is neither visible as done nor available to others;
//   - Confirm makes the reserved work permanent and visible;
//   - Cancel gives back what was reserved.
//
// Each runs at most once for a branch, in the order reserve, then confirm or
// cancel, whatever is repeated, overtaken, lost or killed around it. The barrier
// gets this from one row per branch, written in the same local transaction as
// the function's effects: the row's unique key puts all calls for a branch in
// one order, and what the row says decides whether the function runs.
//
//	             no row                 prepared         committed        rolled back
//	Prepare      reserve -> prepared    prepared         refused          refused
//	Commit       ErrUnknownBranch       confirm, nil     nil              *HeuristicError
//	Rollback     tombstone, nil         cancel, nil      *HeuristicError  nil
//
// The tombstone is a row that says rolled back: it is what refuses a Prepare
// that arrives late. A Reserve that refuses leaves one, too, so a refusal stays.
// The HeuristicError has OutcomeRolledBack for Commit and OutcomeCommitted for
// Rollback: the branch is known to have ended so by a coordinator's word, the
// barrier itself never decides alone.
//
// A second table keeps, per domain and term, the highest epoch seen; calls with
// a lower one change nothing (R9). Data given at Enlist is kept in the row, so
// that Cancel gets it even when the branch is an orphan that no log knows.
//
// Finished rows must outlive every late or repeated call. They stay for
// [Config.Retention] after Forget, or for [Config.MaxRetention] if no Forget
// comes, and are then deleted in small portions by later calls.
//
// [SQLite], [Postgres] and [MariaDB] are the dialects there are, and say which
// drivers they take: the package imports none. [OpenSQLite] opens a SQLite database
// with the settings that a participant needs; [Participant.Check] tells which of a
// server's settings to change.
package barrier
