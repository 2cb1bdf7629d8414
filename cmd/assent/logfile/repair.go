package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// Accepted is what an acceptance was of.
type Accepted struct {
	Path  string
	Words record.Words
	// WasQuarantined: the log was in quarantine until now.
	WasQuarantined bool
}

// Accept records in the log at path, which nobody may use meanwhile, that it is to be
// used as it is (R10). Durable when it returns. Nothing is forgotten on the way.
func Accept(ctx context.Context, path, owner, reason string) (_ Accepted, err error) {
	domain, err := domainOf(ctx, path)
	if err != nil {
		return Accepted{}, err
	}
	// Whether its coordinator may work on this file system is for its own options to say.
	store, err := bolt.Open(path, &bolt.Options{AllowNetworkFS: true})
	if err != nil {
		return Accepted{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	log, _, err := wal.Open(ctx, store, wal.Config{
		Domain: domain, Owner: owner, Retention: math.MaxInt64, RetainBytes: math.MaxInt64,
	})
	if err != nil {
		return Accepted{}, err
	}
	a := Accepted{Path: path, WasQuarantined: log.Words().Quarantined()}
	err = log.Accept(ctx, reason)
	a.Words = log.Words()
	return a, errors.Join(err, log.Close(ctx))
}

// domainOf reads whose log it is, and whether it is one, before anything is changed.
func domainOf(ctx context.Context, path string) (string, error) {
	report, err := Examine(ctx, path)
	switch {
	case err != nil:
		return "", err
	case report.File.Snapshot:
		return "", fmt.Errorf("%s: %w; restore it first", path, bolt.ErrSnapshot)
	case report.Contents.Domain == "":
		return "", fmt.Errorf("%s: no coordinator ever used this log: there is nothing to accept", path)
	default:
		return report.Contents.Domain, nil
	}
}

// Write says what the acceptance means.
func (a Accepted) Write(w io.Writer, asJSON bool) error {
	word := a.Words.Acceptance
	if asJSON {
		return writeJSON(w, fields{
			{"file", a.Path},
			{"was_quarantined", a.WasQuarantined},
			{"quarantined", a.Words.Quarantined()},
			{"acceptance", wordFields(word)},
		})
	}
	was := "it was not in quarantine"
	if a.WasQuarantined {
		was = "its quarantine is over"
	}
	_, err := fmt.Fprintf(w, `%s is accepted as it is: %s.
At the coordinator's next start
  - it works on: new transactions begin
  - prepared branches of terms up to %s for which the log has no decision are rolled back
  - branches of terms that the log never listed are reported as foreign and stay: settle them by hand
`, a.Path, was, word.Term)
	return err
}

// WriteRestored says where the log is now, and what is to be done next.
func WriteRestored(w io.Writer, r bolt.Restored, asJSON bool) error {
	if asJSON {
		f := fields{{"file", r.Path}, {"domain", r.Domain}, {"quarantined", true}}
		f.add("replaced", r.Replaced)
		return writeJSON(w, f)
	}
	if r.Replaced != "" {
		fmt.Fprintf(w, "The log that was there is now %s\n", r.Replaced)
	}
	_, err := fmt.Fprintf(w, `%s is restored, the log of domain %s, in quarantine.
Next
  1. start the coordinator: it is in safe mode, delivers the decisions that the log has, and begins nothing
  2. compare what it lists (DTM.List, DTM.Orphans, assent log stat) with what the participants hold
  3. settle the difference at the participants
  4. stop the coordinator, run: assent log accept %s --reason "..."
  5. start the coordinator again
`, r.Path, r.Domain, quoted(r.Path))
	return err
}

// WriteCompacted says what became of the size.
func WriteCompacted(w io.Writer, path string, before, after int64, asJSON bool) error {
	if asJSON {
		return writeJSON(w, fields{{"file", path}, {"bytes_before", before}, {"bytes_after", after}})
	}
	_, err := fmt.Fprintf(w, "%s: %d bytes before, %d bytes now\n", path, before, after)
	return err
}
