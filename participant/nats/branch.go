package nats

import (
	"context"
	"errors"
	"fmt"

	natsgo "github.com/nats-io/nats.go"

	"github.com/assent-tm/assent/participant"
)

// outcome is what a branch's marker says.
type outcome string

const (
	undecided  outcome = "" // there is no marker
	committed  outcome = "committed"
	rolledBack outcome = "rolled back"
)

// outcome reads the branch's marker.
func (p *Participant) outcome(ctx context.Context, b participant.Branch) (outcome, error) {
	m, err := p.last(ctx, p.cfg.Stream, p.cfg.marker(b))
	if err != nil || m == nil {
		return undecided, err
	}
	return outcomeOf(m)
}

func outcomeOf(m *stored) (outcome, error) {
	if o := outcome(m.Data); o == committed || o == rolledBack {
		return o, nil
	}
	return undecided, fmt.Errorf("%w: marker %q", errNotOurs, m.Data)
}

// decide publishes the branch's marker, and the messages together with it, unless it
// has one. It returns what the marker says then, and whether that is from now.
func (p *Participant) decide(ctx context.Context, b participant.Branch, as outcome, messages []message) (is outcome, first bool, err error) {
	batch := []*natsgo.Msg{expectingNone(newMsg(p.cfg.marker(b), []byte(as)))}
	for _, m := range messages {
		published := newMsg(m.Subject, m.Data)
		for key, values := range m.Header {
			published.Header[key] = values
		}
		batch = append(batch, published)
	}
	if err := p.publish(ctx, p.cfg.Stream, batch); !errors.Is(err, errTaken) {
		return as, true, err
	}
	is, err = p.outcome(ctx, b)
	if err == nil && is == undecided {
		err = errors.New("the branch's marker went while it was read")
	}
	return is, false, err
}

// stage stores the messages. That they are stored already is no error.
func (p *Participant) stage(ctx context.Context, b participant.Branch, data []byte) error {
	m := expectingNone(newMsg(p.cfg.staged(b), data))
	if err := p.publish(ctx, p.cfg.Staging, []*natsgo.Msg{m}); err != nil && !errors.Is(err, errTaken) {
		return fmt.Errorf("stage the messages: %w", err)
	}
	return nil
}

// unstage removes what was staged, if anything was.
func (p *Participant) unstage(ctx context.Context, b participant.Branch) error {
	m, err := p.last(ctx, p.cfg.Staging, p.cfg.staged(b))
	if err != nil || m == nil {
		return err
	}
	return p.remove(ctx, m.Sequence)
}
