package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
)

func (c *Client) run(ctx context.Context, id participant.TxID, deadline time.Time, fn func(ctx context.Context, tx *coordinator.Tx) error) error {
	returned := false
	defer func() {
		if !returned { // fn panicked, or called runtime.Goexit
			_ = c.Rollback(context.WithoutCancel(ctx), id)
		}
	}()
	err := c.runFunc(ctx, id, deadline, fn)
	returned = true
	if err == nil {
		return c.Commit(ctx, id)
	}
	if rollbackErr := c.Rollback(context.WithoutCancel(ctx), id); rollbackErr != nil {
		return errors.Join(err, rollbackErr)
	}
	return err
}

func (c *Client) runFunc(ctx context.Context, id participant.TxID, deadline time.Time, fn func(ctx context.Context, tx *coordinator.Tx) error) error {
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, fmt.Errorf("transaction %s timed out: %w", id, context.DeadlineExceeded))
	defer cancel()
	return fn(ctx, c.Tx(id))
}
