package nats

import (
	"context"
	"errors"
	"fmt"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/staging"
)

// Errors of a session.
var (
	// ErrRolledBack is what a session's methods return once its branch was rolled back,
	// by the transaction's timeout perhaps. What it staged is gone.
	ErrRolledBack = staging.ErrRolledBack
	// ErrFinished is what they return once the branch was asked for its vote.
	ErrFinished = staging.ErrFinished
	// ErrLimit says that a bound of Config or of the server was reached.
	ErrLimit = staging.ErrLimit
	// ErrMessage says that a message can't be published by a branch, because of its
	// subject or header.
	ErrMessage = errors.New("message can't be published")
)

// Session is the branch of one transaction: it collects messages, which are published
// at commit in the order in which they were given. Safe for concurrent use.
type Session struct {
	p      *Participant
	staged *staging.Session[message]
	stream jetstream.StreamConfig // as of Join
}

// Join enlists the participant in tx and returns the session of its branch; joining
// again returns one that collects into the same. What a session collected is lost with
// the process until it is prepared, and the transaction is then rolled back.
//
// Errors: the server can't be reached, for it is asked which streams these are;
// participant.ErrConfig for a stream that is not there; ErrLimit; what tx.Enlist
// returns.
func (p *Participant) Join(ctx context.Context, tx participant.Enlister) (*Session, error) {
	s, err := p.join(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("join transaction %s as participant %q: %w", tx.ID(), p.cfg.Name, err)
	}
	return s, nil
}

func (p *Participant) join(ctx context.Context, tx participant.Enlister) (*Session, error) {
	where, err := p.look(ctx, true)
	if err != nil {
		return nil, err
	}
	staged, err := p.sessions.Join(ctx, tx, p, []byte(where.identity()))
	if err != nil {
		return nil, err
	}
	return &Session{p, staged, where.stream.Config}, nil
}

// Branch returns the session's branch.
func (s *Session) Branch() participant.Branch { return s.staged.Branch() }

// Publish has a message published to the subject at commit. It only puts a copy into
// memory. The subject must be one of the stream's, and header without keys that begin
// with "Nats-", which are the server's.
//
// Errors: ErrRolledBack or ErrFinished once the branch is over, ErrLimit for more than
// Config or the server allows, ErrMessage for what is wrong with the message. They
// leave the session as it was.
func (s *Session) Publish(subject string, header natsgo.Header, data []byte) error {
	m := newMessage(subject, header, data)
	if err := s.publish(m); err != nil {
		return s.p.explain("stage a message in", s.Branch(), err)
	}
	return nil
}

func (s *Session) publish(m message) error {
	if err := s.p.fits(m, s.stream); err != nil {
		return err
	}
	// What is prepared is one message.
	size, limit := m.size(), int(s.p.conn.MaxPayload())-ownBytes
	if staged := s.staged.Staged(); staged+size > limit {
		return fmt.Errorf("%w: %d bytes are staged, %d more are over %d (the server's max_payload)", ErrLimit, staged, size, limit)
	}
	return s.staged.Stage(m, size)
}

// fitAll tells why the stream could not take these messages, even if it were empty.
func (p *Participant) fitAll(messages []message, stream jetstream.StreamConfig) error {
	bytes := 0
	for _, m := range messages {
		if err := p.fits(m, stream); err != nil {
			return err
		}
		bytes += len(m.Subject) + m.headerSize() + len(m.Data)
	}
	if limit := int(stream.MaxMsgs); limit > 0 && len(messages) >= limit {
		return fmt.Errorf("%w: %d messages and a marker, %d at most (max_msgs of stream %q)", ErrLimit, len(messages), limit, p.cfg.Stream)
	}
	if limit := int(stream.MaxBytes); limit > 0 && bytes >= limit {
		return fmt.Errorf("%w: %d bytes of messages and a marker, %d at most (max_bytes of stream %q)", ErrLimit, bytes, limit, p.cfg.Stream)
	}
	return nil
}

// fits tells why the stream would not take the message.
func (p *Participant) fits(m message, stream jetstream.StreamConfig) error {
	if err := p.cfg.mayPublish(m.Subject, stream.Subjects); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	if err := m.wrongHeader(); err != nil {
		return fmt.Errorf("%w: %w", ErrMessage, err)
	}
	size := m.headerSize() + len(m.Data) + ownBytes
	if limit := int(p.conn.MaxPayload()); size > limit {
		return fmt.Errorf("%w: a message of %d bytes, %d at most (the server's max_payload)", ErrLimit, size, limit)
	}
	if limit := int(stream.MaxMsgSize); limit > 0 && size > limit {
		return fmt.Errorf("%w: a message of %d bytes, %d at most (max_msg_size of stream %q)", ErrLimit, size, limit, p.cfg.Stream)
	}
	return nil
}
