package barrier_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

// InnoDB shows others a commit before it is on the disk, and a crash may undo it then: a
// call that comes second is answered when a later fsync is done. With a binary log it is on
// the disk already.
func TestMariaDBRepeatedCallIsToldWhatIsDurable(t *testing.T) {
	capability.Need(t, capability.MariaDB, capability.Strace)
	server, err := servers.StartMariaDB(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	_, err = onMariaDB.connect(t, server.DSN("")).Exec("CREATE DATABASE service")
	require.NoError(t, err)
	s := onMariaDB.serve(t, server.DSN("service")+"?timeout=10s")
	prepare := func(ctx context.Context, b participant.Branch) error {
		_, err := s.Prepare(ctx, b)
		return err
	}
	const delay = time.Second
	n := 0
	for name, call := range map[string]func(context.Context, participant.Branch) error{
		"prepare": prepare, "commit": s.Commit, "rollback": s.Rollback, "one phase": s.CommitOnePhase,
	} {
		n++
		b := branch(n)
		t.Run(name, func(t *testing.T) {
			before := 0
			if name == "commit" {
				s.prepare(b)
				before = 1
			}
			count := func() (rows int) {
				err := s.db.QueryRow("SELECT count(*) + count(nullif(state, 'prepared')) FROM assent_branch WHERE id = ?", string(b.XID())).Scan(&rows)
				require.NoError(t, err)
				return rows
			}
			require.Equal(t, before, count())
			restore, err := server.SlowSyncs(t.Context(), delay)
			require.NoError(t, err)
			defer func() { require.NoError(t, restore()) }()
			first := make(chan error, 1)
			go func() { first <- call(t.Context(), b) }()
			for count() == before { //nolint:revive // until it shows
			}
			began := time.Now()
			require.NoError(t, call(t.Context(), b))
			require.GreaterOrEqual(t, time.Since(began), delay, "it waits for an fsync")
			require.NoError(t, <-first)
		})
	}
}
