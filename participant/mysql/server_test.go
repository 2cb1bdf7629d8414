package mysql_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

// While the server is down every call is an error that decides nothing, and soon.
func TestServerIsDown(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	b, other := prepared(t, p), prepared(t, p)
	require.NoError(t, d.Kill(t.Context()))
	for range 2 {
		for what, err := range map[string]error{"commit": p.Commit(t.Context(), b), "rollback": p.Rollback(t.Context(), other)} {
			require.ErrorContains(t, err, d.Addr(), what)
			require.ErrorContains(t, err, `"bank"`, what)
			require.NotErrorIs(t, err, participant.ErrUnknownBranch, what)
			require.NotErrorIs(t, err, participant.ErrConfig, what)
		}
	}
	_, err := p.List(t.Context(), "test")
	require.ErrorContains(t, err, d.Addr())
	require.ErrorContains(t, p.Check(t.Context()), d.Addr())
	require.NoError(t, d.Start(t.Context()))
	require.NoError(t, p.Commit(t.Context(), b))
	require.NoError(t, p.Rollback(t.Context(), other))
	d.requireEffects(t, b, 1)
	d.requireEffects(t, other, 0)
}

// The same with a binary log, with which the server goes other ways.
func TestWithBinaryLog(t *testing.T) {
	t.Parallel()
	capability.Need(t, capability.MariaDB)
	m, err := servers.StartMariaDB(t.Context(), "log_bin=ON", "sync_binlog=1")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	d := newDatabaseAt(t, m)
	var logged bytes.Buffer
	require.NoError(t, d.open(t, logTo(&logged)).Check(t.Context()))
	require.Contains(t, logged.String(), "MDEV-21469")
	runCases(t, d, func(name string) bool { return !strings.HasSuffix(name, "-kill") })
}

func runCases(t *testing.T, d *database, wanted func(name string) bool) {
	t.Helper()
	for _, c := range participanttest.Cases() {
		if wanted(c.Name) {
			t.Run(c.Name, func(t *testing.T) {
				if err := c.Run(t.Context(), d.subject()); !errors.Is(err, participanttest.ErrNotApplicable) {
					require.NoError(t, err, c.Rule)
				}
			})
		}
	}
}

// MySQL gets its statements one by one. This is no MySQL: it only calls itself one.
func TestStatementByStatement(t *testing.T) {
	t.Parallel()
	capability.Need(t, capability.MariaDB)
	m, err := servers.StartMariaDB(t.Context(), "version=8.0.36")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	d := newDatabaseAt(t, m)
	d.requireMisconfigured(t, d.open(t), "xa_detach_on_prepare = ON")
	runCases(t, d, func(name string) bool { return name != "check" && !strings.Contains(name, "-during-") })
}
