package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// ServeParticipant lets p, which is in this process, take part in the server's
// transactions: the server has it configured as an attached participant under p's name.
// It serves until ctx ends, and then finishes what it was asked and returns nil; streams
// that break are opened again. Several processes may serve the same participant, and
// share its work, but for branches that were enlisted by one of them: their calls come
// to that one while it is attached.
//
// It returns at once if the server refuses it for a reason that lasts, see
// remote.ServeStream, and with coordinator.ErrClosed if the client is closed.
func (c *Client) ServeParticipant(ctx context.Context, p participant.Participant) error {
	name, err := nameOf(p)
	if err != nil {
		return fmt.Errorf("serve participant: %w", err)
	}
	if err := c.enter(); err != nil {
		return fmt.Errorf("serve participant %q: %w", name, err)
	}
	defer c.all.Done()
	if !c.serve(name) {
		return fmt.Errorf("serve participant %q: this client serves it already", name)
	}
	defer c.serveNoMore(name)
	serveCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)() //nolint:contextcheck // both ends end it
	config := remote.StreamConfig{Participant: p, Instance: c.config.Instance, Open: c.attach}
	if c.config.OnAttached != nil {
		config.OnAttached = func() { c.config.OnAttached(name) }
	}
	if c.config.OnLost != nil {
		config.OnLost = func(err error) { c.config.OnLost(name, err) }
	}
	if err := remote.ServeStream(serveCtx, config); err != nil {
		return err
	}
	if ctx.Err() == nil {
		return fmt.Errorf("serve participant %q: %w", name, errClientClosed)
	}
	return nil
}

func (c *Client) attach(ctx context.Context) (remote.ClientStream, error) {
	stream, err := c.attachments.Attach(ctx)
	if err != nil {
		return nil, err
	}
	return stream, nil
}

func (c *Client) serve(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.serves[name]
	c.serves[name] = true
	return !before
}

func (c *Client) serveNoMore(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.serves, name)
}

// instanceFor returns the instance that a branch enlisted here belongs to.
func (c *Client) instanceFor(name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serves[name] {
		return c.config.Instance
	}
	return ""
}

// nameOf returns the name that the server knows p by.
func nameOf(p participant.Participant) (string, error) {
	if e, ok := p.(elsewhere); ok {
		return string(e), participant.ValidName(string(e))
	}
	if _, _, err := new(participant.Registry).Register(p); err != nil {
		return "", err
	}
	return p.Name(), nil
}

// Participant returns what stands for a participant that the server knows and this
// process does not have: for Enlist and Submit. Its own methods return errors.
func Participant(name string) participant.Participant { return elsewhere(name) }

// elsewhere is a participant that is not here.
type elsewhere string

var errElsewhere = errors.New("this participant is the server's: it can be enlisted, not called")

func (e elsewhere) Name() string { return string(e) }

func (e elsewhere) Prepare(context.Context, participant.Branch) (participant.Vote, error) {
	return 0, errElsewhere
}

func (e elsewhere) Commit(context.Context, participant.Branch) error { return errElsewhere }

func (e elsewhere) Rollback(context.Context, participant.Branch) error { return errElsewhere }
