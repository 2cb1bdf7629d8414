package remote_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

func TestMain(m *testing.M) {
	serveIfAsked()
	participanttest.Main(subject)
	goleak.VerifyTestMain(m)
}

// subject reaches the service at a place, which is a kind, a space and a URL, from any
// process. What it lacks is Visible.
func subject(where string) (participanttest.Subject, error) {
	kind, url, _ := strings.Cut(where, " ")
	var open func() (remote.Participant, error)
	switch kind {
	case "http":
		open = func() (remote.Participant, error) {
			return remote.NewHTTP(remote.HTTPConfig{Name: serviceName, URL: url, Secrets: secrets(), Lists: true, Forgets: true})
		}
	case "grpc":
		open = func() (remote.Participant, error) {
			return remote.NewGRPC(remote.GRPCConfig{Name: serviceName, URL: url, Secrets: secrets(), Lists: true, Forgets: true})
		}
	default:
		return participanttest.Subject{}, fmt.Errorf("%q is nowhere", where)
	}
	return participanttest.Subject{
		Where:      where,
		New:        func(context.Context) (participant.Participant, error) { return open() },
		Begin:      enlist("work"),
		Refuse:     enlist(refuseData),
		KeepsEpoch: true,
	}, nil
}

func enlist(data string) func(context.Context, participant.Participant, participant.Enlister) error {
	return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
		_, err := tx.Enlist(ctx, p, []byte(data))
		return err
	}
}

// secrets are two, as while one is being replaced.
func secrets() []remote.Secret {
	var read []remote.Secret
	for _, text := range []string{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"} {
		s, err := remote.ParseSecret(text)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		read = append(read, s)
	}
	return read
}
