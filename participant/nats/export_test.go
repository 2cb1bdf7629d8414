package nats

import (
	"context"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// What tests of the server's behaviour use of the package's inside.
var (
	ErrTaken = errTaken
	AtLeast  = atLeast
)

// Publish stores messages as the phases do.
func (p *Participant) Publish(ctx context.Context, stream string, messages ...*natsgo.Msg) error {
	return p.publish(ctx, stream, messages)
}

// Subjects returns the subjects of the staging stream.
func (p *Participant) Subjects(ctx context.Context, filter string) ([]string, error) {
	return p.subjects(ctx, filter)
}

// SetMaxRetention sets what New would refuse.
func (p *Participant) SetMaxRetention(d time.Duration) { p.cfg.MaxRetention = d }
