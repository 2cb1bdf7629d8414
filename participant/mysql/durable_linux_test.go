package mysql_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// The server shows others a commit before it is on the disk, and a crash may undo it
// then: another process is told of it when a later fsync is done.
func TestOthersAreToldWhatIsDurable(t *testing.T) {
	capability.Need(t, capability.Strace)
	d := newDatabase(t)
	const delay = time.Second
	type call func(*mysql.Participant, participant.Branch) error
	rollback := func(p *mysql.Participant, b participant.Branch) error { return p.Rollback(t.Context(), b) }
	onePhase := func(p *mysql.Participant, b participant.Branch) error { return p.CommitOnePhase(t.Context(), b) }
	for name, calls := range map[string]struct {
		first, second call
		committed     bool // is what the second has to say
	}{
		"rolled back":                  {rollback, rollback, false},
		"committed in one phase":       {onePhase, rollback, true},
		"committed in one phase again": {onePhase, onePhase, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, q := d.open(t), d.open(t)
			b, _ := begun(t, p)
			require.NoError(t, q.Rollback(t.Context(), newTransaction().b)) // it is connected
			restore, err := d.SlowSyncs(t.Context(), delay)
			require.NoError(t, err)
			defer func() { require.NoError(t, restore()) }()
			first := make(chan error, 1)
			go func() { first <- calls.first(p, b) }()
			for d.text(t, "SELECT COUNT(*) FROM assent_witness WHERE id = ?", string(b.XID())) == "0" { //nolint:revive // until it shows
			}
			began := time.Now()
			err = calls.second(q, b)
			require.GreaterOrEqual(t, time.Since(began), delay, "it waits for an fsync")
			require.NoError(t, <-first)
			if calls.committed {
				requireHeuristic(t, err, participant.OutcomeCommitted)
			} else {
				require.NoError(t, err)
			}
		})
	}
}
