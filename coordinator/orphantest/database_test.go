package orphantest

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// adapter is a participant over a database.
type adapter interface {
	participant.Participant
	participant.Lister
	participant.OnePhaser
	participant.Forgetter
	participant.Checker
	participant.Explainer
	Close() error
}

// database is a private server with an adapter's tables and one for effects.
type database interface {
	// open returns a fresh instance, as a process has it that just started.
	open(t *testing.T) adapter
	// work has one effect, by the transaction's id.
	work(ctx context.Context, p participant.Participant, tx participant.Enlister) error
	// effects counts those that are visible.
	effects(t *testing.T, id participant.TxID) int
	// foreign prepares what is no branch.
	foreign(t *testing.T)
	// prepared is what the server has prepared, of anybody.
	prepared(t *testing.T) map[string]bool
	// client gives statements to the server's own client.
	client(t *testing.T, statements string)
}

func run(t *testing.T, stdin, name string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Stdin = strings.NewReader(stdin)
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s: %s", stdin, output)
}
