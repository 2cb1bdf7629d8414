package remote_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

// kinds are the ways to a service.
var kinds = []string{"http", "grpc"}

// A service that keeps the contract in its own process keeps it over the network.
func TestContract(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			store := participanttest.NewStore()
			s, err := subject(kind + " " + serveHere(t, store.Participant(serviceName), remote.HandlerConfig{Secrets: secrets()}))
			require.NoError(t, err)
			s.Where, s.Visible = "", store.Subject(serviceName).Visible
			participanttest.Test(t, s)
		})
	}
}

// It does so, too, when the service's process is killed, or the coordinator's is.
func TestContractWithKills(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			service := startKillable(t)
			db, err := openDatabase(service.path)
			require.NoError(t, err)
			defer func() { require.NoError(t, db.Close()) }()
			s, err := subject(kind + " " + service.url())
			require.NoError(t, err)
			s.Restart = service.restart
			s.Visible = func(ctx context.Context, b participant.Branch) (bool, error) { return visible(ctx, db, b) }
			participanttest.Test(t, s)
		})
	}
}

func visible(ctx context.Context, db *sql.DB, b participant.Branch) (bool, error) {
	var reserved, confirmed, cancelled int
	err := db.QueryRowContext(ctx, `SELECT reserved, confirmed, cancelled FROM effect WHERE id = ?`, string(b.XID())).Scan(&reserved, &confirmed, &cancelled)
	switch is := [3]int{reserved, confirmed, cancelled}; {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return false, err
	case is == [3]int{1, 1, 0}:
		return true, nil
	case is == [3]int{0, 0, 0}, is == [3]int{1, 0, 0}, is == [3]int{1, 0, 1}:
		return false, nil
	default:
		return false, fmt.Errorf("functions ran out of order or twice: %v", is)
	}
}
