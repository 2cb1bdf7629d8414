package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
)

// The handle fits where generated code wants a database.
var _ interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
} = (*mysql.Session)(nil)

// requireAllReturn says that every call of the session returns an error.
func requireAllReturn(t *testing.T, s *mysql.Session, want error) {
	t.Helper()
	_, err := s.ExecContext(t.Context(), "INSERT INTO effect VALUES ('late')")
	require.ErrorIs(t, err, want)
	_, err = s.QueryContext(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, want)
	_, err = s.PrepareContext(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, want)
	var n int
	require.ErrorIs(t, s.QueryRowContext(t.Context(), "SELECT 1").Scan(&n), want)
}

func TestSessionDoesTheBranchsWork(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	b, s := begun(t, p)
	ctx := t.Context()

	_, err := s.ExecContext(ctx, "UPDATE account SET balance = balance - ? WHERE name = ?", 30, "ann")
	require.NoError(t, err)
	statement, err := s.PrepareContext(ctx, "UPDATE account SET balance = balance + ? WHERE name = ?")
	require.NoError(t, err)
	for range 3 {
		_, err = statement.ExecContext(ctx, 10, "bob")
		require.NoError(t, err)
	}
	var balance int
	require.NoError(t, s.QueryRowContext(ctx, "SELECT balance FROM account WHERE name = 'bob'").Scan(&balance))
	require.Equal(t, 30, balance)
	rows, err := s.QueryContext(ctx, "SELECT name, balance FROM account WHERE balance > ? ORDER BY name", 0)
	require.NoError(t, err)
	got := map[string]int{}
	for rows.Next() {
		var name string
		require.NoError(t, rows.Scan(&name, &balance))
		got[name] = balance
	}
	require.NoError(t, rows.Err())
	require.Equal(t, map[string]int{"ann": 70, "bob": 30}, got)

	vote, err := p.Prepare(ctx, b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	requireAllReturn(t, s, mysql.ErrFinished)
	_, err = statement.ExecContext(ctx, 10, "bob")
	require.ErrorIs(t, err, mysql.ErrFinished)
	require.Equal(t, "0", d.text(t, "SELECT balance FROM account WHERE name = 'bob'"))

	require.NoError(t, p.Commit(ctx, b))
	requireAllReturn(t, s, mysql.ErrFinished)
	_, err = statement.ExecContext(ctx, 10, "bob")
	require.Error(t, err)
	require.Equal(t, "30", d.text(t, "SELECT balance FROM account WHERE name = 'bob'"))
	require.Equal(t, "0", d.text(t, "SELECT COUNT(*) FROM effect WHERE tx = 'late'"))
}

func TestJoinAgainIsTheSameSession(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	tx := newTransaction()
	sessions := make([]*mysql.Session, 8)
	var wg sync.WaitGroup
	for i := range sessions {
		wg.Go(func() { sessions[i], _ = p.Join(t.Context(), tx) })
	}
	wg.Wait()
	for _, s := range sessions {
		require.NotNil(t, s)
		require.Same(t, sessions[0], s)
	}
	require.NoError(t, p.Rollback(t.Context(), tx.b))
}

// A second process can't begin the same branch, nor does its attempt harm the first.
func TestJoinElsewhereIsRefused(t *testing.T) {
	d := newDatabase(t)
	p, q := d.open(t), d.open(t)
	b, _ := begun(t, p)
	_, err := q.Join(t.Context(), &transaction{b})
	require.ErrorContains(t, err, "1440")
	require.ErrorContains(t, err, "another session has begun")
	vote, err := p.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.NoError(t, p.Commit(t.Context(), b))
	d.requireEffects(t, b, 1)
}

// enlister refuses, or does what it is told meanwhile.
type enlister struct {
	*transaction
	meanwhile func() error
}

func (e *enlister) Enlist(ctx context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	b, err := e.transaction.Enlist(ctx, p, data)
	return b, errors.Join(err, e.meanwhile())
}

func TestJoinThatFailsGivesTheConnectionBack(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.MaxSessions = 1 })
	full := errors.New("too many branches")
	for range 3 {
		_, err := p.Join(t.Context(), &enlister{newTransaction(), func() error { return full }})
		require.ErrorIs(t, err, full)
	}
	require.Panics(t, func() { _, _ = p.Join(t.Context(), &enlister{newTransaction(), func() error { panic("in Enlist") }}) })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Join(ended, newTransaction())
	require.ErrorIs(t, err, context.Canceled)
	b := prepared(t, p)
	require.NoError(t, p.Rollback(t.Context(), b))
}

// A coordinator that knows of the branch may roll it back before Join has returned.
func TestRollbackDuringJoin(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	tx := newTransaction()
	told := make(chan error, 1)
	s, err := p.Join(t.Context(), &enlister{tx, func() error {
		go func() { told <- p.Rollback(context.WithoutCancel(t.Context()), tx.b) }()
		return nil
	}})
	require.NoError(t, <-told)
	if err == nil {
		requireAllReturn(t, s, mysql.ErrRolledBack)
	}
	vote, err := p.Prepare(t.Context(), tx.b)
	require.Error(t, err)
	require.Equal(t, participant.VoteRefused, vote)
}

// running starts a statement and returns its error when it has ended. It returns
// itself when the server runs the statement.
func running(t *testing.T, d *database, s *mysql.Session, statement string) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := s.ExecContext(context.WithoutCancel(t.Context()), statement)
		ended <- err
	}()
	require.Eventually(t, func() bool {
		return d.text(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE info = ?", statement) == "1"
	}, time.Minute, time.Millisecond)
	return ended
}

// A timeout's rollback does not wait for statements: it breaks them off, also at the
// server, where they may wait for a lock and hold others.
func TestRollbackBreaksOffWhatRuns(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.MaxSessions = 2 })
	holder, err := d.admin.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = holder.Rollback() }()
	_, err = holder.ExecContext(t.Context(), "UPDATE account SET balance = 1 WHERE name = 'ann'")
	require.NoError(t, err)
	for _, statement := range []string{"SELECT SLEEP(600)", "UPDATE account SET balance = 0 WHERE name = 'ann'"} {
		b, s := begun(t, p)
		_, err := s.ExecContext(t.Context(), "UPDATE account SET balance = 7 WHERE name = 'bob'")
		require.NoError(t, err)
		ended := running(t, d, s, statement)
		require.NoError(t, p.Rollback(t.Context(), b))
		require.ErrorIs(t, <-ended, mysql.ErrRolledBack, statement)
		requireAllReturn(t, s, mysql.ErrRolledBack)
		d.exec(t, "UPDATE account SET balance = 8 WHERE name = 'bob'")
		d.requireEffects(t, b, 0)
	}
}

// A rollback that could not end the session ends it when it is repeated: the server does
// not see that the client is gone while a statement runs.
func TestRepeatedRollbackEndsTheSession(t *testing.T) {
	d := newDatabase(t)
	dsn := d.user(t, "busy", "ALL PRIVILEGES ON "+d.name+".*")
	d.exec(t, "ALTER USER busy@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1") // none is left for the participant's own
	p := d.open(t, func(c *mysql.Config) { c.MaxSessions, c.DSN = 1, dsn })
	b, s := begun(t, p)
	answer := make(chan error, 1)
	go func() {
		_, err := s.ExecContext(t.Context(), "SELECT SLEEP(600)")
		answer <- err
	}()
	connection := connectionOf(t, b)
	require.Eventually(t, func() bool {
		return d.text(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ? AND info LIKE '%SLEEP%'", connection) == "1"
	}, time.Minute, time.Millisecond)
	require.ErrorContains(t, p.Rollback(t.Context(), b), "max_user_connections")
	require.ErrorIs(t, <-answer, mysql.ErrRolledBack)
	d.exec(t, "ALTER USER busy@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")
	require.NoError(t, p.Rollback(t.Context(), b))
	require.Equal(t, "0", d.text(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", connection))
	d.requireEffects(t, b, 0)
}

func TestRollbackClosesOpenRows(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.MaxSessions = 1 })
	b, s := begun(t, p)
	rows, err := s.QueryContext(t.Context(), "SELECT seq FROM seq_1_to_1000000")
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, rows.Next())
	require.NoError(t, p.Rollback(t.Context(), b))
	for rows.Next() {
		continue
	}
	require.Error(t, rows.Err())
	// The only connection is there for the next one.
	require.NoError(t, p.Rollback(t.Context(), prepared(t, p)))
}

// Work that was not prepared ends with the time of its transaction, also if nobody
// tells it to.
func TestDeadlineEndsWhatWasNotPrepared(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	tx := newTransaction()
	tx.b.Deadline = time.Now().Add(200 * time.Millisecond)
	s, err := work(t.Context(), p, tx)
	require.NoError(t, err)
	_, err = s.ExecContext(t.Context(), "SELECT SLEEP(600)")
	require.ErrorIs(t, err, mysql.ErrRolledBack)
	require.ErrorContains(t, err, "time was over")
	// A new session would be taken for the one that was undone.
	_, err = p.Join(t.Context(), tx)
	require.ErrorIs(t, err, mysql.ErrRolledBack)
	vote, err := p.Prepare(t.Context(), tx.b)
	require.Error(t, err)
	require.Equal(t, participant.VoteRefused, vote)
	d.requireEffects(t, tx.b, 0)
}

// Rows that are open keep the connection: a statement between them would break it,
// and a Prepare could not be sent.
func TestOpenRowsAreAnError(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	b, s := begun(t, p)
	rows, err := s.QueryContext(t.Context(), "SELECT name FROM account")
	require.NoError(t, err)
	require.True(t, rows.Next())
	_, err = s.ExecContext(t.Context(), "UPDATE account SET balance = 0")
	require.ErrorIs(t, err, mysql.ErrBusy)
	require.NoError(t, rows.Close())
	vote, err := p.Prepare(t.Context(), b)
	require.Equal(t, participant.VoteRefused, vote, "a statement was not executed")
	require.ErrorIs(t, err, mysql.ErrBusy)

	b, s = begun(t, p)
	rows, err = s.QueryContext(t.Context(), "SELECT name FROM account")
	require.NoError(t, err)
	defer rows.Close()
	vote, err = p.Prepare(t.Context(), b)
	require.Equal(t, participant.VoteRefused, vote)
	require.ErrorIs(t, err, mysql.ErrBusy)
	require.Empty(t, d.prepared(t))
	d.requireEffects(t, b, 0)
}

// T4: a connection whose branch is still prepared, or may be, is not used again. The
// user has one connection, so nobody else ends it.
func TestPoisonedConnectionIsNotUsedAgain(t *testing.T) {
	d := newDatabase(t)
	dsn := d.user(t, "poisoned", "ALL PRIVILEGES ON "+d.name+".*")
	d.exec(t, "ALTER USER poisoned@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
	p := d.open(t, func(c *mysql.Config) { c.MaxSessions, c.DSN = 1, dsn })
	b := prepared(t, p)
	d.exec(t, "SET GLOBAL read_only = ON")
	// The first call closes the connection, and the server takes a moment: then there is
	// one for phase two.
	var err error
	require.Eventually(t, func() bool {
		err = p.Commit(t.Context(), b)
		return err == nil || !strings.Contains(err.Error(), "max_user_connections")
	}, 10*time.Second, time.Millisecond)
	require.ErrorContains(t, err, "read_only")
	d.exec(t, "SET GLOBAL read_only = OFF")
	d.exec(t, "ALTER USER poisoned@'127.0.0.1' WITH MAX_USER_CONNECTIONS 0")

	next, s := begun(t, p)
	var one int
	require.NoError(t, s.QueryRowContext(t.Context(), "SELECT 1 FROM account LIMIT 1").Scan(&one))
	require.NotEqual(t, connectionOf(t, b), connectionOf(t, next))
	require.NoError(t, p.CommitOnePhase(t.Context(), next))
	require.NoError(t, p.Commit(t.Context(), b))
	d.requireEffects(t, b, 1)
}

// A server that became read-only keeps the branch, and is for an operator to mend.
func TestCommitAtAReadOnlyServer(t *testing.T) {
	d := newDatabase(t)
	dsn := d.user(t, "clerk", "ALL PRIVILEGES ON "+d.name+".*")
	p := d.open(t, func(c *mysql.Config) { c.DSN = dsn })
	b, rolledBack := prepared(t, p), prepared(t, p)
	onePhase, _ := begun(t, p)
	d.exec(t, "SET GLOBAL read_only = ON")
	for what, err := range map[string]error{
		"commit": p.Commit(t.Context(), b), "rollback": p.Rollback(t.Context(), rolledBack), "one phase": p.CommitOnePhase(t.Context(), onePhase),
	} {
		require.ErrorIs(t, err, participant.ErrConfig, what)
		require.ErrorContains(t, err, "read_only", what)
	}
	d.exec(t, "SET GLOBAL read_only = OFF")
	require.NoError(t, p.Commit(t.Context(), b))
	require.NoError(t, p.Rollback(t.Context(), rolledBack))
	require.ErrorIs(t, p.CommitOnePhase(t.Context(), onePhase), participant.ErrRefused)
	d.requireEffects(t, b, 1)
	d.requireEffects(t, rolledBack, 0)
	d.requireEffects(t, onePhase, 0)
}

func TestCloseLeavesInDoubtWhatIsInDoubt(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	inDoubt := prepared(t, p)
	active, s := begun(t, p)
	ended := running(t, d, s, "SELECT SLEEP(600)")
	require.NoError(t, p.Close())
	require.ErrorIs(t, <-ended, mysql.ErrFinished)
	_, err := s.ExecContext(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, mysql.ErrFinished)
	_, err = p.Join(t.Context(), newTransaction())
	require.ErrorContains(t, err, "closed")

	q := d.open(t)
	vote, err := q.Prepare(t.Context(), active)
	require.Error(t, err)
	require.Equal(t, participant.VoteRefused, vote)
	require.NoError(t, q.Commit(t.Context(), inDoubt))
	d.requireEffects(t, inDoubt, 1)
	d.requireEffects(t, active, 0)
}
