package barrier_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

func TestNewRejects(t *testing.T) {
	good := onSQLite.config(onSQLite.connect(t, onSQLite.fresh(t)))
	for name, change := range map[string]func(*barrier.Config){
		"no name":              func(c *barrier.Config) { c.Name = "" },
		"no database":          func(c *barrier.Config) { c.DB = nil },
		"no dialect":           func(c *barrier.Config) { c.Dialect = nil },
		"no reserve":           func(c *barrier.Config) { c.Reserve = nil },
		"no confirm":           func(c *barrier.Config) { c.Confirm = nil },
		"no cancel":            func(c *barrier.Config) { c.Cancel = nil },
		"table that is SQL":    func(c *barrier.Config) { c.Table = "t; DROP TABLE t" },
		"table with a digit":   func(c *barrier.Config) { c.Table = "1t" },
		"table too long":       func(c *barrier.Config) { c.Table = strings.Repeat("t", 49) },
		"retention too short":  func(c *barrier.Config) { c.Retention = time.Millisecond },
		"retentions crossed":   func(c *barrier.Config) { c.Retention, c.MaxRetention = time.Hour, time.Minute },
		"retention below zero": func(c *barrier.Config) { c.MaxRetention = -time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			change(&cfg)
			_, err := barrier.New(t.Context(), cfg)
			require.ErrorIs(t, err, participant.ErrInvalidParticipant)
		})
	}
	good.Table = "Branch_1"
	_, err := barrier.New(t.Context(), good)
	require.NoError(t, err)
}

func TestSchemaCreatesWhatNewWould(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		db := on.connect(t, on.fresh(t))
		p, err := barrier.New(t.Context(), on.config(db, func(c *barrier.Config) { c.SkipSchema = true }))
		require.NoError(t, err)

		// Each call says what is missing, and leaves nothing.
		_, prepareErr := p.Prepare(t.Context(), branch(1))
		_, listErr := p.List(t.Context(), "orders")
		for _, err := range []error{p.Check(t.Context()), prepareErr, p.Commit(t.Context(), branch(1)), p.Rollback(t.Context(), branch(1)), listErr} {
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, "barrier.Schema")
			require.ErrorContains(t, err, `participant "service"`)
		}

		for statement := range strings.SplitAfterSeq(barrier.Schema(on.dialect, barrier.DefaultTable), ";\n") {
			if strings.TrimSpace(statement) != "" {
				_, err = db.Exec(statement)
				require.NoError(t, err)
			}
		}
		require.NoError(t, p.Check(t.Context()))
		var rows int
		require.NoError(t, db.QueryRow(`SELECT (SELECT count(*) FROM assent_branch) + (SELECT count(*) FROM assent_branch_term)`).Scan(&rows))
		require.Zero(t, rows, "Check leaves nothing")
	})
}

// Processes of one service start at the same time.
func TestTablesAreCreatedOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		dsn := on.fresh(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				db, err := on.open(dsn)
				if err != nil {
					t.Error(err)
					return
				}
				_, err = barrier.New(t.Context(), on.config(db))
				if err := errors.Join(err, db.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// skippingSchema is a participant that found its tables there; New asks it nothing.
func (k *kind) skippingSchema(t *testing.T, dsn string) *barrier.Participant {
	db := k.connect(t, dsn)
	p, err := barrier.New(t.Context(), k.config(db, func(c *barrier.Config) { c.SkipSchema = true }))
	require.NoError(t, err)
	return p
}

// misconfigured asserts that Check says what to change.
func misconfigured(t *testing.T, p *barrier.Participant, fix string) {
	t.Helper()
	err := p.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `participant "service"`)
	require.ErrorContains(t, err, fix)
}

// A server that is down says nothing of how it is set up, nor of any branch. A
// service starts without it, and is of use when the server is back.
func TestUnreachableServer(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		if on.server == nil {
			return
		}
		s := on.newService(t)
		s.prepare(branch(1))
		require.NoError(t, on.server(t).Kill(t.Context()))
		p := on.skippingSchema(t, s.dsn)
		vote, prepareErr := p.Prepare(t.Context(), branch(2))
		require.Zero(t, vote)
		_, newErr := barrier.New(t.Context(), on.config(on.connect(t, s.dsn)))
		for _, err := range []error{p.Check(t.Context()), prepareErr, p.Commit(t.Context(), branch(1)), p.Rollback(t.Context(), branch(1)), newErr} {
			require.ErrorContains(t, err, `participant "service"`)
			require.ErrorContains(t, err, "connection refused")
			require.NotErrorIs(t, err, participant.ErrConfig)
			require.NotErrorIs(t, err, participant.ErrUnknownBranch)
		}
		require.NoError(t, on.server(t).Start(t.Context()))
		require.NoError(t, p.Check(t.Context()))
		require.NoError(t, p.Commit(t.Context(), branch(1)))
		require.NoError(t, p.Rollback(t.Context(), branch(2)))
	})
}
