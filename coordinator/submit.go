package coordinator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
)

// Enlistment says whom Submit enlists, and with what data; see WithData.
type Enlistment struct {
	Participant participant.Participant
	Data        []byte
}

// Submit begins a transaction, enlists all that are named, and commits it: it returns
// what Commit returns, and the id as soon as there is one. Nobody can find the
// transaction before it has all of its branches.
//
// With WithRequestID it is idempotent, also across a restart: as long as the outcome
// is kept, another Submit with the same request id, owner and enlistments, in any
// order, is about the same transaction, waits for its decision and tells its outcome;
// one with other enlistments is ErrConflict, as is the request id of a Begin. After
// ErrRolledBack the work may be done again with a new request id only.
//
// Errors are those of Begin and Enlist, without an id, as nothing was asked then, and
// those of Commit, with it. When ctx ends it is as for Commit. With a request id there
// are 32 bytes less for name, owner and request id than Begin has.
func (d *DTM) Submit(ctx context.Context, enlistments []Enlistment, options ...BeginOption) (participant.TxID, error) {
	var o BeginOptions
	if len(options) > 0 {
		o = o.with(options)
	}
	if err := d.admits(ctx); err != nil {
		return participant.TxID{}, fmt.Errorf("submit transaction: %w", err)
	}
	if !d.enter() {
		return participant.TxID{}, fmt.Errorf("submit transaction: %w", ErrClosed)
	}
	defer d.leave()
	var room [4]submitted // most transactions have no more branches
	s := submission{branches: room[:0]}
	if err := d.admitSubmitted(&s, enlistments); err != nil {
		return participant.TxID{}, fmt.Errorf("submit transaction: %w", err)
	}
	t, err := d.beginWith(ctx, o, &s)
	if err != nil {
		return participant.TxID{}, fmt.Errorf("submit transaction: %w", err)
	}
	if err := d.commit(ctx, t); err != nil {
		return t.id, fmt.Errorf("submit transaction %s: %w", t.id, err)
	}
	return t.id, nil
}

// submission is the branches a transaction is begun with.
type submission struct{ branches []submitted }

type submitted struct {
	participant *participant.Registered
	name        string
	data        []byte
}

// admitSubmitted reads the enlistments into s, or says why not all of them can be
// enlisted: before anything is begun.
func (d *DTM) admitSubmitted(s *submission, enlistments []Enlistment) error {
	for i, e := range enlistments {
		registered, err := d.register(e.Participant)
		if err != nil {
			return fmt.Errorf("enlistment %d: %w", i, err)
		}
		b := submitted{registered, registered.Name(), e.Data}
		if err := checkData(b.data); err != nil {
			return fmt.Errorf("enlist participant %q: %w", b.name, err)
		}
		if before := slices.IndexFunc(s.branches, func(o submitted) bool { return o.name == b.name }); before >= 0 {
			if bytes.Equal(s.branches[before].data, b.data) {
				continue // one branch per participant
			}
			return fmt.Errorf("enlist participant %q: %w: it is enlisted twice, with different data", b.name, ErrConflict)
		}
		if len(s.branches) == participant.MaxBranches {
			return fmt.Errorf("enlist participant %q: %w: %d branches are the most", b.name, ErrLimit, participant.MaxBranches)
		}
		s.branches = append(s.branches, b)
	}
	return nil
}

// refused says why the participants can't be enlisted now (R12).
func (d *DTM) refused(s *submission) error {
	for i := range s.branches {
		if err := d.endpoint(s.branches[i].name).refuses(); err != nil {
			return err
		}
	}
	return nil
}

// joinSubmitted enlists what was submitted.
func (d *DTM) joinSubmitted(t *transaction, s *submission) error {
	for i := range s.branches {
		b := &s.branches[i]
		if err := d.join(t, protocol.Enlist(b.name, bytes.Clone(b.data), b.participant.OnePhaser != nil)); err != nil {
			return fmt.Errorf("enlist participant %q: %w", b.name, d.notEnlisted(t, err))
		}
	}
	return nil
}

// traceSubmitted tells the trace of the branches that a transaction was begun with.
func (d *DTM) traceSubmitted(t *transaction, s *submission) {
	if d.config.Trace.Enlisted == nil {
		return
	}
	for number := range s.branches {
		t.mu.Lock()
		joined := number < len(t.branches)
		t.mu.Unlock()
		if joined {
			d.config.Trace.enlisted(d.branch(t, number))
		}
	}
}

// fingerprint tells one set of branches from another; "" for none. A Submit with a request id
// keeps it in the log, as an attribute of Begun: the data of branches is not kept as
// long as the outcome is.
func (s *submission) fingerprint() string {
	if s == nil {
		return ""
	}
	branches := slices.SortedFunc(slices.Values(s.branches), func(a, b submitted) int { return strings.Compare(a.name, b.name) })
	h := sha256.New()
	var length [8]byte
	for _, b := range branches {
		for _, part := range [...][]byte{[]byte(b.name), b.data} {
			binary.BigEndian.PutUint64(length[:], uint64(len(part)))
			h.Write(length[:])
			h.Write(part)
		}
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:fingerprintBytes])
}

const fingerprintBytes = 16
