package barrier_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

func TestSQLiteCheckNamesTheSetting(t *testing.T) {
	for setting, want := range map[string]string{
		"_journal_mode=WAL&_synchronous=FULL":    "",
		"_journal_mode=WAL&_synchronous=EXTRA":   "",
		"_journal_mode=DELETE":                   "",
		"_journal_mode=WAL&_synchronous=NORMAL":  "set synchronous=FULL",
		"_journal_mode=WAL&_synchronous=OFF":     "set synchronous=FULL",
		"_journal_mode=MEMORY&_synchronous=FULL": "set journal_mode=WAL",
		"_journal_mode=OFF":                      "set journal_mode=WAL",
		"mode=memory":                            "set journal_mode=WAL",
	} {
		t.Run(setting, func(t *testing.T) {
			db := onSQLite.connect(t, "file:"+filepath.Join(t.TempDir(), "service.db")+"?"+setting)
			db.SetMaxOpenConns(1)
			p, err := barrier.New(t.Context(), onSQLite.config(db))
			require.NoError(t, err)
			err = p.Check(t.Context())
			if want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, want)
		})
	}
}

func TestSQLiteFileThatCannotBeWritten(t *testing.T) {
	s := onSQLite.newService(t)
	db := onSQLite.connect(t, s.dsn+"&mode=ro")
	p, err := barrier.New(t.Context(), onSQLite.config(db, func(c *barrier.Config) { c.SkipSchema = true }))
	require.NoError(t, err)
	err = p.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "let the program read and write the database file")
}

func TestSQLiteDSNOfAnAwkwardPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?c#d%e&f.db")
	db, err := barrier.OpenSQLite(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	p, err := barrier.New(t.Context(), onSQLite.config(db))
	require.NoError(t, err)
	require.FileExists(t, path)
	require.NoError(t, p.Check(t.Context()))
	var timeout int
	require.NoError(t, db.QueryRow("PRAGMA busy_timeout").Scan(&timeout))
	require.Equal(t, 5000, timeout)
}
