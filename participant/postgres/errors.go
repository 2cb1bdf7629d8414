package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assent-tm/assent/participant"
)

var (
	// ErrRolledBack is what the calls of a session return once its transaction is
	// rolled back, by a timeout perhaps.
	ErrRolledBack = errors.New("the transaction was rolled back")
	// ErrFinished is what the calls of a session return once its branch was asked
	// for its vote, or the participant is closed.
	ErrFinished = errors.New("the session is over")
	// ErrBusy is what the calls of a session return while another of its
	// statements runs, or has rows that are not closed.
	ErrBusy = errors.New("another statement of the session runs, or its rows are not closed")
)

// SQLSTATEs that decide something; appendix A of PostgreSQL's manual has them all.
const (
	featureNotSupported = "0A000"
	notNullViolation    = "23502"
	readOnlyTransaction = "25006"
	transactionFailed   = "25P02"
	unknownStatement    = "26000"
	invalidAuth         = "28000"
	invalidPassword     = "28P01"
	invalidDatabase     = "3D000"
	invalidSchema       = "3F000"
	insufficientRights  = "42501"
	undefinedColumn     = "42703"
	undefinedObject     = "42704"
	undefinedTable      = "42P01"
	outOfMemory         = "53200"
	wrongState          = "55000"
	lockNotAvailable    = "55P03"
	uniqueViolation     = "23505"
)

func code(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

// certain reports whether err is the server's word that the statement failed, and
// the session lives. What ends the session may come after the statement is done.
func certain(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && server.SeverityUnlocalized == "ERROR"
}

// configHint says what to change. What has no hint gets better by itself, or is the
// statement's own.
func (p *Participant) configHint(code string) string {
	switch code {
	case undefinedTable, undefinedColumn, invalidSchema:
		return fmt.Sprintf("there is no witness table %s as it should be; create it with\n%s", p.table, Schema(p.cfg.Table))
	case insufficientRights:
		return fmt.Sprintf("the role of the pool has to be the one that prepares branches, or a superuser, and needs "+
			"GRANT SELECT, INSERT, UPDATE, DELETE ON %s", p.table)
	case invalidAuth, invalidPassword:
		return "correct user and password in the pool's connection string, or pg_hba.conf"
	case invalidDatabase:
		return "correct the database in the pool's connection string, or create it"
	case readOnlyTransaction:
		return "the server is a standby, or read-only by default_transaction_read_only: point the pool at the primary, which can write"
	default:
		return ""
	}
}

// explainState adds to an error of the server what is to be done about it, and
// makes it an ErrConfig if that is to change the configuration.
func (p *Participant) explainState(err error) error {
	if hint := p.configHint(code(err)); hint != "" {
		return fmt.Errorf("%w: %w: %s", participant.ErrConfig, err, hint)
	}
	return err
}

// explainMissing says why the witness row would have been one without an id or a state.
func (p *Participant) explainMissing(err error) error {
	var server *pgconn.PgError
	switch {
	case !errors.As(err, &server):
	case server.ColumnName == "id":
		return errOwnEnd
	case server.ColumnName == "state":
		return fmt.Errorf("the transaction runs as another role than %q, as which the pool would have to finish it: a branch must not SET ROLE", p.finisher())
	}
	return fmt.Errorf("insert the witness row: %w", err)
}

// explainPrepare is explainState for PREPARE TRANSACTION.
func (p *Participant) explainPrepare(err error) error {
	var server *pgconn.PgError
	if !errors.As(err, &server) {
		return err
	}
	switch {
	case server.Code == wrongState:
		return fmt.Errorf("%w: %w: set max_prepared_transactions to at least the number of branches in doubt at a time, "+
			"max_connections as a rule, and restart the server", participant.ErrConfig, err)
	case server.Code == outOfMemory && strings.Contains(server.Hint, "max_prepared_transactions"):
		return fmt.Errorf("%w: all are in doubt, and some may be orphans; else raise max_prepared_transactions and restart the server", err)
	case server.Code == featureNotSupported && server.Detail != "":
		return fmt.Errorf("%w: %s", err, server.Detail)
	}
	return p.explainState(err)
}

// explainFinish is explainState for COMMIT PREPARED and ROLLBACK PREPARED.
func (p *Participant) explainFinish(err error) error {
	if code(err) == featureNotSupported {
		return fmt.Errorf("%w: %w: point the pool at the database that has the branch, see pg_prepared_xacts", participant.ErrConfig, err)
	}
	return p.explainState(err)
}

// explain says what was being done to which branch.
func (p *Participant) explain(what string, b participant.Branch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s branch %s of participant %q: %w", what, b.XID(), p.cfg.Name, err)
}
