package mysql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tm/assent/participant"
)

// Join enlists the participant in tx and returns the session in which the branch's
// statements run. Joining again returns the same session.
//
// The session keeps a connection until the branch's outcome is told, or its
// deadline passes before it is prepared. Errors are those of connecting, of Enlist
// and of XA START. After one that comes behind Enlist the transaction can only be
// rolled back.
func (p *Participant) Join(ctx context.Context, tx participant.Enlister) (*Session, error) {
	s, err := p.join(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("join transaction %s with participant %q: %w", tx.ID(), p.cfg.Name, err)
	}
	return s, nil
}

func (p *Participant) join(ctx context.Context, tx participant.Enlister) (*Session, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, errClosed
	}
	s, found := p.sessions[tx.ID()]
	if !found {
		// It is there before the coordinator knows of the branch: a rollback finds it.
		s = newSession(p, tx.ID())
		p.sessions[s.tx] = s
	}
	p.mu.Unlock()
	if found {
		select {
		case <-s.joined:
			return s, s.failed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	s.failed = errors.New("a panic in Enlist")
	defer func() {
		if s.failed != nil {
			s.finish()
		}
		close(s.joined)
		s.release()
	}()
	s.failed = s.begin(ctx, tx)
	return s, s.failed
}

// begin gives the session its connection and its branch.
func (s *Session) begin(ctx context.Context, tx participant.Enlister) (err error) {
	if s.conn, err = s.p.work.Conn(ctx); err != nil {
		return s.p.explainServer(err)
	}
	err = s.conn.Raw(func(raw any) (err error) {
		s.wire, err = wireOf(raw)
		return err
	})
	if err != nil {
		return err
	}
	s.origin = s.wire.origin
	if s.branch, err = tx.Enlist(ctx, s.p, []byte(s.origin.String())); err != nil {
		return err
	}
	if late := s.branch.Deadline; !late.IsZero() && !time.Now().Before(late) {
		// The session that it had, perhaps with this very connection, is undone.
		return errTimeOver
	}
	s.xid = newXAID(s.branch, bqual(s.origin.database, s.p.cfg.Name)).literal()
	if err := s.raw(func(c *conn) error { return c.run(ctx, "XA START "+s.xid) }); err != nil {
		s.wire.poisoned.Store(true)
		if errno(err) == errXADuplicate {
			return fmt.Errorf("another session has begun branch %s: %w", s.branch.XID(), err)
		}
		return fmt.Errorf("begin branch %s: %w", s.branch.XID(), s.p.explainServer(err))
	}
	s.state = active
	s.wire.gate.Store(&s.gate)
	if !s.branch.Deadline.IsZero() {
		s.timer = time.AfterFunc(time.Until(s.branch.Deadline), s.expire)
	}
	return nil
}

func wireOf(raw any) (*conn, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, fmt.Errorf("the pool's connections are %T", raw)
	}
	return c, nil
}

// hold returns the branch's session with the right to change its state, which
// release gives up; nil if the branch has none in this process.
func (p *Participant) hold(ctx context.Context, b participant.Branch) (*Session, error) {
	for {
		p.mu.Lock()
		s := p.sessions[b.Tx]
		p.mu.Unlock()
		if s == nil {
			return nil, nil
		}
		if err := s.take(ctx); err != nil {
			return nil, err
		}
		if s.state != over && s.branch.XID() == b.XID() {
			return s, nil
		}
		other := s.state != over
		s.release()
		if other {
			return nil, nil
		}
	}
}

// drop lets go of a session that is over.
func (p *Participant) drop(s *Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[s.tx] == s {
		delete(p.sessions, s.tx)
	}
}

var errClosed = errors.New("the participant is closed")
