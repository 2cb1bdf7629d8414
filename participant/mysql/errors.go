package mysql

import (
	"errors"
	"fmt"

	driver "github.com/go-sql-driver/mysql"

	"github.com/assent-tm/assent/participant"
)

// ErrRolledBack is what the calls of a Session return once its branch is rolled
// back: by the coordinator, or because its time was over.
var ErrRolledBack = errors.New("the branch was rolled back")

// Errors of the server that decide something.
const (
	errNoDatabaseAccess  = 1044
	errAccessDenied      = 1045
	errNoDatabase        = 1049
	errNoColumn          = 1054
	errDuplicate         = 1062
	errNoSuchThread      = 1094
	errKillDenied        = 1095
	errHostNotAllowed    = 1130
	errNoTableAccess     = 1142
	errNoColumnAccess    = 1143
	errNoTable           = 1146
	errLockWait          = 1205
	errNoPrivilege       = 1227
	errReadOnly          = 1290
	errXAUnknown         = 1397 // XAER_NOTA
	errXAFailed          = 1401 // XAER_RMERR
	errXARolledBack      = 1402 // XA_RBROLLBACK
	errXADuplicate       = 1440 // XAER_DUPID
	errXATimeout         = 1613 // XA_RBTIMEOUT
	errXADeadlock        = 1614 // XA_RBDEADLOCK
	errAccessDeniedNoPwd = 1698
)

// xaPrivilege is what MySQL wants for XA RECOVER, and for branches of other sessions.
const xaPrivilege = "the user lacks a privilege: GRANT XA_RECOVER_ADMIN ON *.* TO the user"

// errno returns the number of the server's error; 0 if err is none.
func errno(err error) int {
	var server *driver.MySQLError
	if !errors.As(err, &server) {
		return 0
	}
	return int(server.Number)
}

// explainServer adds what to do to errors that an operator has to mend: those Are
// participant.ErrConfig.
func (p *Participant) explainServer(err error) error {
	fix := ""
	switch errno(err) {
	case errNoDatabaseAccess, errAccessDenied, errHostNotAllowed, errAccessDeniedNoPwd:
		fix = "the server refuses the user: correct user and password in Config.DSN, or grant the user access"
	case errNoDatabase:
		fix = "the server has no such database: correct it in Config.DSN"
	case errNoTable, errNoColumn:
		fix = fmt.Sprintf("there is no table %s as it should be: call CreateTable, or execute\n%s", p.table, Schema(p.cfg.Table))
	case errNoTableAccess, errNoColumnAccess:
		fix = "the user needs more rights: GRANT SELECT, INSERT, UPDATE, DELETE ON " + p.table + " TO the user"
	case errNoPrivilege:
		fix = xaPrivilege
	case errReadOnly:
		fix = "the server is read-only: SET GLOBAL read_only = OFF, or correct the address in Config.DSN"
	case errKillDenied:
		fix = "the branch was begun by another user, whose connection this one may not end: KILL it by hand, or connect as that user"
	default:
		return err
	}
	return fmt.Errorf("%w: %s: %w", participant.ErrConfig, fix, err)
}

// explain says what was being done to which branch.
func (p *Participant) explain(what string, b participant.Branch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s branch %s of participant %q: %w", what, b.XID(), p.cfg.Name, err)
}
