package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

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
	// ErrLimit says that a bound of Config was reached.
	ErrLimit = staging.ErrLimit
	// ErrKey says that a key can't be written as an operation wants, because of its
	// name, of what it holds, or of what the user may.
	ErrKey = errors.New("key can't be written")
)

// Session is the branch of one transaction: it stages operations, which are applied
// at commit in the order in which they were staged. Its methods only put them into
// memory; strings are binary and may hold any bytes. They return ErrRolledBack or
// ErrFinished once the branch is over, ErrLimit for more than Config allows, and ErrKey
// for a key that the branch must not write. An error leaves the session as it was. Safe
// for concurrent use.
type Session struct {
	p      *Participant
	staged *staging.Session[operation]
}

// Join enlists the participant in tx and returns the session of its branch; joining
// again returns one that stages into the same. What a session staged is lost with the process until it
// is prepared, and the transaction is then rolled back.
//
// Errors: the server can't be reached, for it is asked which database it is; ErrLimit;
// what tx.Enlist returns.
func (p *Participant) Join(ctx context.Context, tx participant.Enlister) (*Session, error) {
	s, err := p.join(ctx, tx)
	if err != nil {
		return nil, fmt.Errorf("join transaction %s as participant %q: %w", tx.ID(), p.cfg.Name, err)
	}
	return s, nil
}

func (p *Participant) join(ctx context.Context, tx participant.Enlister) (*Session, error) {
	database, err := p.knownDatabase(ctx)
	if err != nil {
		return nil, err
	}
	staged, err := p.sessions.Join(ctx, tx, p, []byte(database))
	if err != nil {
		return nil, err
	}
	return &Session{p, staged}, nil
}

// Branch returns the session's branch.
func (s *Session) Branch() participant.Branch { return s.staged.Branch() }

// Set sets the string at the key. The key must hold a string or nothing.
func (s *Session) Set(key, value string) error {
	return s.stage(operation{"SET", key, value})
}

// IncrBy adds n to the number at the key, a string of decimal digits, which is 0 if
// there is none. A result beyond 64 bits is refused at Prepare.
func (s *Session) IncrBy(key string, n int64) error {
	return s.stage(operation{"INCRBY", key, strconv.FormatInt(n, 10)})
}

// HSet sets fields of the hash at the key: field, value, field, value.
func (s *Session) HSet(key string, fieldsAndValues ...string) error {
	if err := s.pairs(key, fieldsAndValues); err != nil {
		return err
	}
	return s.stage(append(operation{"HSET", key}, fieldsAndValues...))
}

// XAdd appends an entry to the stream at the key: field, value, field, value. It gets
// its id at commit.
func (s *Session) XAdd(stream string, fieldsAndValues ...string) error {
	if err := s.pairs(stream, fieldsAndValues); err != nil {
		return err
	}
	return s.stage(append(operation{"XADD", stream, "*"}, fieldsAndValues...))
}

func (s *Session) pairs(key string, words []string) error {
	if len(words) == 0 || len(words)%2 != 0 || len(words) > maxArguments-2 {
		return s.explain(fmt.Errorf("key %q: %d words are not 1 to %d pairs of field and value", key, len(words), maxArguments/2-1))
	}
	return nil
}

func (s *Session) stage(o operation) error {
	if err := s.p.mayWrite(o.key()); err != nil {
		return s.explain(fmt.Errorf("%w: %q: %w", ErrKey, o.key(), err))
	}
	return s.explain(s.staged.Stage(o, o.size()))
}

// mayWrite tells what is wrong with a key's name.
func (p *Participant) mayWrite(key string) error {
	_, cluster := p.cfg.Client.(*goredis.ClusterClient)
	switch {
	case key == "":
		return errors.New("it is empty")
	case strings.HasPrefix(key, p.keys.prefix):
		return errors.New("it is one of the participant's own")
	case cluster && hashTag(key) != p.cfg.HashTag:
		return fmt.Errorf("on a cluster all keys of a branch must be in one slot: give it the hash tag {%s} (Config.HashTag)", p.cfg.HashTag)
	}
	return nil
}

// hashTag returns what a cluster hashes of a key, or "" if that is all of it.
func hashTag(key string) string {
	_, rest, _ := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(rest, "}")
	if !closed {
		return ""
	}
	return tag
}

func (s *Session) explain(err error) error {
	if err == nil {
		return nil
	}
	return s.p.explain("stage an operation in", s.Branch(), err)
}
