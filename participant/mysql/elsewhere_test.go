package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
)

// F1: while the session that prepared a branch lives, nobody else can finish it, and
// the server says that it does not know it. The session is ended, and not before it
// had time to finish by itself.
func TestFinishingEndsTheSessionThatHoldsTheBranch(t *testing.T) {
	d := newDatabase(t)
	p, q := d.open(t), d.open(t)
	for _, known := range []bool{true, false} { // false: an orphan that a sweep found
		committed, rolledBack := prepared(t, p), prepared(t, p)
		_, err := d.admin.ExecContext(t.Context(), "XA COMMIT "+d.list(t)[0].literal)
		require.ErrorContains(t, err, "1397")
		c, r := committed, rolledBack
		if !known {
			c.Data, r.Data = nil, nil
		}
		require.NoError(t, q.Commit(t.Context(), c))
		require.NoError(t, q.Rollback(t.Context(), r))
		d.requireEffects(t, committed, 1)
		d.requireEffects(t, rolledBack, 0)
		// The former owner's word is answered by what became of the branch.
		require.NoError(t, p.Commit(t.Context(), committed))
		require.NoError(t, p.Rollback(t.Context(), rolledBack))
	}
	require.Empty(t, d.prepared(t))
}

// A connection goes on to the next branch. A word on the former one that comes late
// does not end it.
func TestLateWordsLeaveTheNextBranchAlone(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.MaxSessions = 1 })
	q := d.open(t)
	committed := prepared(t, p)
	require.NoError(t, p.Commit(t.Context(), committed))
	rolledBack, _ := begun(t, p)
	require.NoError(t, p.Rollback(t.Context(), rolledBack))
	for _, isPrepared := range []bool{false, true} {
		next, _ := begun(t, p)
		require.Equal(t, connectionOf(t, committed), connectionOf(t, next))
		if isPrepared {
			vote, err := p.Prepare(t.Context(), next)
			require.NoError(t, err)
			require.Equal(t, participant.VotePrepared, vote)
		}
		require.NoError(t, q.Commit(t.Context(), committed))
		requireHeuristic(t, q.Rollback(t.Context(), committed), participant.OutcomeCommitted)
		require.NoError(t, q.Rollback(t.Context(), rolledBack))
		requireHeuristic(t, q.Commit(t.Context(), rolledBack), participant.OutcomeRolledBack)

		vote, err := p.Prepare(t.Context(), next)
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		require.NoError(t, p.Commit(t.Context(), next))
		d.requireEffects(t, next, 1)
		require.Equal(t, "1", d.text(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", connectionOf(t, next)))
	}
}

// After a restart the numbers of connections begin anew: the one that a branch was
// begun on is somebody else's, who is not to be killed, nor waited for.
func TestReusedConnectionNumberIsNotKilled(t *testing.T) {
	d := newDatabase(t)
	require.NoError(t, d.Restart(t.Context())) // the numbers are low
	p := d.open(t)
	committed, rolledBack := prepared(t, p), prepared(t, p)
	require.NoError(t, d.Restart(t.Context()))
	reused := map[int]*sql.DB{connectionOf(t, committed): nil, connectionOf(t, rolledBack): nil}
	for found := 0; found < len(reused); {
		db, err := sql.Open("mysql", d.DSN(d.name))
		require.NoError(t, err)
		db.SetMaxOpenConns(1)
		defer func() { require.NoError(t, db.Close()) }()
		var number int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&number))
		if _, ok := reused[number]; ok {
			reused[number] = db
			found++
		}
		require.LessOrEqual(t, number, max(connectionOf(t, committed), connectionOf(t, rolledBack)))
	}

	q := d.open(t)
	require.NoError(t, q.Commit(t.Context(), committed))
	require.NoError(t, q.Rollback(t.Context(), rolledBack))
	d.requireEffects(t, committed, 1)
	d.requireEffects(t, rolledBack, 0)
	for number, db := range reused {
		var still int
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&still))
		require.Equal(t, number, still)
	}
}

// F4's like: a rollback finds the branch still at work in a session that is not this
// process's, and so not to be ended; its XA PREPARE comes late.
func TestLatePrepareIsRefused(t *testing.T) {
	d := newDatabase(t)
	p, q := d.open(t, func(c *mysql.Config) { c.MaxSessions = 1 }), d.open(t)
	b, s := begun(t, p)
	require.NoError(t, q.Rollback(t.Context(), b))
	_, err := s.ExecContext(t.Context(), "INSERT INTO effect VALUES (?)", "more work")
	require.NoError(t, err)
	vote, err := p.Prepare(t.Context(), b)
	require.ErrorContains(t, err, "finished before")
	require.Equal(t, participant.VoteRefused, vote)
	require.Empty(t, d.prepared(t))
	d.requireEffects(t, b, 0)

	b, _ = begun(t, p)
	require.NoError(t, q.Rollback(t.Context(), b))
	require.ErrorIs(t, p.CommitOnePhase(t.Context(), b), participant.ErrRefused)
	d.requireEffects(t, b, 0)
}

// The Data leads to a database, not to a name. Another one behind the name never had
// the branch, and its "unknown" would be no answer (R7).
func TestOtherDatabaseIsNoAnswer(t *testing.T) {
	d, other := newDatabase(t), newDatabase(t)
	p, astray := d.open(t), other.open(t)
	b := prepared(t, p)
	for what, err := range map[string]error{
		"commit":    astray.Commit(t.Context(), b),
		"rollback":  astray.Rollback(t.Context(), b),
		"one phase": astray.CommitOnePhase(t.Context(), b),
		"prepare": func() error {
			vote, err := astray.Prepare(t.Context(), b)
			require.False(t, vote.Valid())
			return err
		}(),
	} {
		require.ErrorIs(t, err, participant.ErrConfig, what)
		require.NotErrorIs(t, err, participant.ErrUnknownBranch, what)
		require.ErrorContains(t, err, "Config.DSN leads to", what)
		require.ErrorContains(t, err, `"bank"`, what)
	}
	require.Equal(t, []string{string(b.XID())}, d.prepared(t))

	// The same server: what it lists of the other database is not astray's.
	listing, err := astray.List(t.Context(), "test")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	listing, err = p.List(t.Context(), "test")
	require.NoError(t, err)
	require.Len(t, listing.Prepared, 1)
	require.NoError(t, p.Commit(t.Context(), b))
	d.requireEffects(t, b, 1)
}

// A table that was created anew has another identity.
func TestTableCreatedAnewIsAnotherDatabase(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	b := prepared(t, p)
	literal := d.literal(t)
	require.NoError(t, p.Close())
	d.gone(t, connectionOf(t, b))
	d.exec(t, "CREATE TABLE fresh LIKE assent_witness")
	q := d.open(t, func(c *mysql.Config) { c.Table = "fresh" })
	require.NoError(t, q.CreateTable(t.Context()))
	require.ErrorIs(t, q.Commit(t.Context(), b), participant.ErrConfig)
	d.exec(t, "XA COMMIT "+literal)
}

// KILL is denied for another user's connections: that is for an operator to mend.
func TestSessionOfAnotherUser(t *testing.T) {
	d := newDatabase(t)
	rights := "ALL PRIVILEGES ON " + d.name + ".*"
	before, after := d.user(t, "former", rights), d.user(t, "newer", rights)
	p := d.open(t, func(c *mysql.Config) { c.DSN = before })
	q := d.open(t, func(c *mysql.Config) { c.DSN = after })
	b := prepared(t, p)
	err := q.Commit(t.Context(), b)
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "1095")
	require.ErrorContains(t, err, fmt.Sprintf("connection %d", connectionOf(t, b)))
	require.NoError(t, d.killSession(t, b))
	require.NoError(t, q.Commit(t.Context(), b))
	d.requireEffects(t, b, 1)
}

// A call's end is no decision: the branch stays as it is, and the call is made again.
func TestCallsEndWithTheirContext(t *testing.T) {
	d := newDatabase(t)
	p, q := d.open(t), d.open(t)
	b := prepared(t, p)
	ended, cancel := context.WithDeadlineCause(t.Context(), time.Now(), errors.New("no more time"))
	defer cancel()
	for _, instance := range []*mysql.Participant{p, q} {
		require.Error(t, instance.Commit(ended, b))
		require.Error(t, instance.Rollback(ended, b))
	}
	require.Equal(t, []string{string(b.XID())}, d.prepared(t))
	require.NoError(t, p.Commit(t.Context(), b), "on the branch's own connection")
	d.requireEffects(t, b, 1)
}
