package participanttest_test

import (
	"context"
	"os"
	"testing"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

// Bank stands for a participant of your own.
type Bank struct{ participant.Participant }

func OpenBank(ctx context.Context, url string) (*Bank, error)         { return nil, nil }
func Balance(ctx context.Context, url string, tx string) (int, error) { return 0, nil }

// bank reaches the bank from any process.
func bank(url string) (participanttest.Subject, error) {
	return participanttest.Subject{
		Where: url,
		New:   func(ctx context.Context) (participant.Participant, error) { return OpenBank(ctx, url) },
		Visible: func(ctx context.Context, b participant.Branch) (bool, error) {
			moved, err := Balance(ctx, url, b.Tx.String())
			return moved != 0, err
		},
	}, nil
}

// The whole kit, with kills of the service and of the processes that use it, as the
// TestMain and a test of a package run it.
func Example() {
	testMain := func(m *testing.M) {
		participanttest.Main(bank)
		os.Exit(m.Run())
	}
	testBank := func(t *testing.T) {
		server, err := servers.StartPostgres(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = server.Close() }()
		subject, err := bank(server.URL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		subject.Restart = server.Restart
		participanttest.Test(t, subject)
	}
	_, _ = testMain, testBank
}
