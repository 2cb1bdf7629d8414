package bench

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

func TestPairMeasuresEveryFigure(t *testing.T) {
	capability.Need(t, capability.Postgres, capability.MariaDB)
	o := Options{Databases: true, Only: []string{"pair"}, Rounds: 1, Slice: 40 * time.Millisecond}
	report, err := Run(t.Context(), o)
	require.NoError(t, err)
	var names []string
	aims := map[string]string{}
	for _, f := range report.Figures {
		names = append(names, f.Name)
		require.NotEmpty(t, f.What, f.Name)
		if f.Unit != "commits" { // a difference: so short a slice may have it either way
			require.Positive(t, f.Value, f.Name)
		}
		if f.Met != nil {
			aims[f.Name] = f.Bound + " " + number(f.Aim)
		}
	}
	require.Equal(t, pairArea.figures, names)
	require.Equal(t, map[string]string{"pair.assent_ratio.c16": ">= 0.8", "pair.p50_commits.c1": "<= 2.5"}, aims)
}

// Each side does in both databases what it is measured for, and leaves nothing
// prepared.
func TestPairSidesDoTheSame(t *testing.T) {
	capability.Need(t, capability.Postgres, capability.MariaDB)
	var p pair
	defer func() { require.NoError(t, p.close(context.WithoutCancel(t.Context()))) }()
	require.NoError(t, p.open(t.Context(), t.TempDir()))
	for name, side := range map[string]func(context.Context, int) error{
		"each": p.commitEach, "by hand": p.commitByHand, "Assent": p.commitWithAssent,
	} {
		require.NoError(t, side(t.Context(), 3), name)
		p.done++
		require.NoError(t, p.requireDone(t.Context()), name)
		var prepared int
		require.NoError(t, p.postgres.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_prepared_xacts").Scan(&prepared))
		require.Zero(t, prepared, name)
		rows, err := p.mariadb.db.QueryContext(t.Context(), "XA RECOVER")
		require.NoError(t, err)
		require.False(t, rows.Next(), name)
		require.NoError(t, errors.Join(rows.Err(), rows.Close()))
	}
	p.done++
	require.EqualError(t, p.requireDone(t.Context()), "after 4 transactions, PostgreSQL has 3 and MariaDB 3 of their updates")
}

func TestInterruptedPairLeavesNothing(t *testing.T) {
	capability.Need(t, capability.Postgres, capability.MariaDB)
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Dir: t.TempDir(), Databases: true, Only: []string{"pair"}, Rounds: 1, Slice: time.Hour}
	o.Progress = func(string) { cancel() }
	_, err := Run(ctx, o)
	require.ErrorIs(t, err, context.Canceled)
	requireEmpty(t, o.Dir)
}

// What is missing is said before anything is measured, and only to who wants it.
func TestMissingServersAreNamedFirst(t *testing.T) {
	all := areas
	defer func() { areas = all }()
	missing := errors.New("no program postgres: install Debian's package postgresql-15")
	areas = []area{diskArea, {name: "pair", figures: []string{"pair.any"}, asked: func(o Options) bool { return o.Databases }, flag: "--databases", lacks: func(Options) error { return missing }}}
	o := Options{Dir: t.TempDir(), Databases: true, Rounds: 1, Slice: time.Hour}
	_, err := Run(t.Context(), o)
	require.ErrorAs(t, err, new(BadOption))
	require.EqualError(t, err, "--databases: "+missing.Error())
	requireEmpty(t, o.Dir)

	o.Databases = false
	chosen, err := choose(o)
	require.NoError(t, err)
	require.Len(t, chosen, 1)
}

func TestServersMustBeOnTheDiskOfTheLog(t *testing.T) {
	same, err := sameDisk(t.TempDir(), os.TempDir())
	require.NoError(t, err)
	require.True(t, same)
	same, err = sameDisk("/proc", os.TempDir())
	require.NoError(t, err)
	require.False(t, same)
	_, err = sameDisk("/nix/da", os.TempDir())
	require.ErrorContains(t, err, "stat /nix/da")
}
