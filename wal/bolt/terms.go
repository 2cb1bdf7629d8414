package bolt

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

// claim is a takeover that is durable, of a term that was not asked for yet.
type claim struct {
	owner string
	epoch uint64
}

// Open is a [wal.Store]'s.
func (s *Store) Open(ctx context.Context, owner string) (wal.Stream, error) {
	if err := errors.Join(ctx.Err(), checkOwner(owner)); err != nil {
		return nil, fmt.Errorf("open a term: %w", err)
	}
	s.terms.Lock()
	defer s.terms.Unlock()
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	opened := stream{store: s}
	err := s.update("open a term", func(tx *bbolt.Tx) error {
		c, err := readCounters(tx)
		if err != nil {
			return err
		}
		c.terms++
		c.epoch++
		if !(participant.Term(c.terms) << 32).Valid() {
			return refusal{fmt.Errorf("%w: all %d term numbers are used; `assent log` shows what is in doubt: finish that by hand at the participants, and begin a new log",
				wal.ErrTermsExhausted, c.terms-1)}
		}
		opened.term = participant.NewTerm(c.terms, binary.BigEndian.Uint32(random[:]))
		opened.epoch = c.epoch
		if err := tx.Bucket(metaBucket).Put(countersKey, c.value()); err != nil {
			return err
		}
		return putEntry(tx, opened.term, entry{epoch: c.epoch, low: 1, owner: owner})
	})
	if err != nil {
		return nil, err
	}
	s.live[opened.term] = owner
	return &opened, nil
}

// Orphans is a [wal.Store]'s. No other process can be at work on the log, so every
// term that was not opened or taken over by this store is an orphan, and later is
// nil.
func (s *Store) Orphans(ctx context.Context) (now []participant.Term, later <-chan participant.Term, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, fmt.Errorf("list orphans: %w", err)
	}
	s.terms.Lock()
	defer s.terms.Unlock()
	err = s.view("list orphans", func(tx *bbolt.Tx) error {
		now, err = s.orphans(tx)
		return err
	})
	return now, nil, err
}

// orphans needs s.terms.
func (s *Store) orphans(tx *bbolt.Tx) (found []participant.Term, err error) {
	err = tx.Bucket(termsBucket).ForEach(func(key, _ []byte) error {
		term, err := parseTermKey(key)
		if err != nil {
			return fmt.Errorf("%w: %w", wal.ErrDamaged, err)
		}
		if _, alive := s.live[term]; !alive {
			found = append(found, term)
		}
		return nil
	})
	return found, err
}

// TakeOver is a [wal.Store]'s. It makes the takeover of all orphans durable at
// once, so that those of the others cost nothing.
func (s *Store) TakeOver(ctx context.Context, term participant.Term, owner string) (wal.Stream, error) {
	what := fmt.Sprintf("take over term %s", term)
	if err := errors.Join(ctx.Err(), checkOwner(owner)); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	s.terms.Lock()
	defer s.terms.Unlock()
	if owned, alive := s.live[term]; alive {
		return nil, fmt.Errorf("%s from %s: %w", what, owned, wal.ErrOwned)
	}
	if c, ok := s.claimed[term]; !ok || c.owner != owner {
		var claims map[participant.Term]claim
		err := s.update(what, func(tx *bbolt.Tx) (err error) {
			claims, err = s.claimOrphans(tx, term, owner)
			return err
		})
		if err != nil {
			return nil, err
		}
		s.claimed = claims
	}
	taken := &stream{store: s, term: term, epoch: s.claimed[term].epoch}
	delete(s.claimed, term)
	s.live[term] = owner
	return taken, nil
}

// claimOrphans raises the epoch of every orphan: from then on the former owner's
// appends are refused (R9). It needs s.terms.
func (s *Store) claimOrphans(tx *bbolt.Tx, term participant.Term, owner string) (map[participant.Term]claim, error) {
	if tx.Bucket(termsBucket).Get(termKey(term)) == nil {
		return nil, refusal{wal.ErrNoTerm}
	}
	c, err := readCounters(tx)
	if err != nil {
		return nil, err
	}
	orphans, err := s.orphans(tx)
	if err != nil {
		return nil, err
	}
	c.epoch++
	claims := map[participant.Term]claim{}
	for _, orphan := range orphans {
		e, err := readEntry(tx, orphan)
		if err != nil {
			return nil, err
		}
		e.epoch, e.owner = c.epoch, owner
		if err := putEntry(tx, orphan, e); err != nil {
			return nil, err
		}
		claims[orphan] = claim{owner: owner, epoch: c.epoch}
	}
	return claims, tx.Bucket(metaBucket).Put(countersKey, c.value())
}

// Owner is a [wal.Store]'s.
func (s *Store) Owner(ctx context.Context, term participant.Term) (owner string, known bool, err error) {
	if err := ctx.Err(); err != nil {
		return "", false, fmt.Errorf("owner of term %s: %w", term, err)
	}
	s.terms.Lock()
	defer s.terms.Unlock()
	err = s.view("owner of a term", func(tx *bbolt.Tx) error {
		known = tx.Bucket(termsBucket).Get(termKey(term)) != nil
		return nil
	})
	if err != nil || !known {
		return "", false, err
	}
	return s.live[term], true, nil
}

func checkOwner(owner string) error {
	if len(owner) > maxOwner {
		return fmt.Errorf("owner's name has %d bytes, %d are allowed", len(owner), maxOwner)
	}
	return nil
}

func readCounters(tx *bbolt.Tx) (counters, error) {
	return parseCounters(tx.Bucket(metaBucket).Get(countersKey))
}

// readEntry fails with wal.ErrNoTerm if there is none.
func readEntry(tx *bbolt.Tx, term participant.Term) (entry, error) {
	key := termKey(term)
	value := tx.Bucket(termsBucket).Get(key)
	if value == nil {
		return entry{}, wal.ErrNoTerm
	}
	e, err := parseEntry(key, value)
	if err != nil {
		return entry{}, fmt.Errorf("%w: %w", wal.ErrDamaged, err)
	}
	return e, nil
}

func putEntry(tx *bbolt.Tx, term participant.Term, e entry) error {
	key := termKey(term)
	return tx.Bucket(termsBucket).Put(key, e.value(key))
}
