package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// Report is what Examine finds in a log.
type Report struct {
	File     bolt.FileInfo
	Contents *wal.Contents
	Segments uint64
	Records  int // without the headers
	// InDoubt are the transactions that some participant is still to be told of;
	// of these, Committed, RolledBack and Undecided are so. A transaction that its
	// only branch decides counts as undecided.
	InDoubt, Committed, RolledBack, Undecided int
	// Oldest is when the oldest of those in doubt was begun; zero if there is none.
	Oldest time.Time
	// Retained are the outcomes that are kept for those who ask.
	Retained int
}

// Examine reads the whole log and checks all of it: every page in use and every
// checksum, every record, and that records, terms and marks go together. It changes
// nothing. Errors are those of bolt.OpenReader and wal.Read.
func Examine(ctx context.Context, path string) (_ *Report, err error) {
	r, err := bolt.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	report := &Report{File: r.Info()}
	if report.Contents, err = wal.Read(ctx, &counting{r, report}); err != nil {
		return nil, fmt.Errorf("log %s: %w", path, err)
	}
	for _, s := range report.Contents.Transactions {
		report.count(s)
	}
	return report, nil
}

// counting counts what is read.
type counting struct {
	*bolt.Reader
	report *Report
}

func (c *counting) Scan(ctx context.Context, term participant.Term, fn func(uint64, []byte) error) error {
	return c.Reader.Scan(ctx, term, func(seq uint64, segment []byte) error {
		c.report.Segments++
		for rest := segment; len(rest) > 0; {
			var err error
			if _, rest, err = record.NextFrame(rest); err != nil {
				break // fn says it better
			}
			c.report.Records++
		}
		c.report.Records-- // the header
		return fn(seq, segment)
	})
}

func (r *Report) count(s *record.State) {
	if !s.Completed.IsZero() {
		r.Retained++
		return
	}
	r.InDoubt++
	switch s.Decision {
	case record.DecisionCommit:
		r.Committed++
	case record.DecisionRollback:
		r.RolledBack++
	default:
		r.Undecided++
	}
	if !s.At.IsZero() && (r.Oldest.IsZero() || s.At.Before(r.Oldest)) {
		r.Oldest = s.At
	}
}

// WriteVerified says that the log is in order, and what was looked at.
func (r *Report) WriteVerified(w io.Writer, asJSON bool) error {
	if asJSON {
		f := fields{
			{"file", r.File.Path},
			{"ok", true},
			{"pages_used", r.File.UsedPages},
			{"segments", r.Segments},
			{"records", r.Records},
			{"transactions", len(r.Contents.Transactions)},
		}
		f.add("torn", r.File.Torn)
		return writeJSON(w, f)
	}
	but := ""
	if r.File.Torn {
		but = "but for its " + tornMeans + "\n"
	}
	_, err := fmt.Fprintf(w, "%s is in order: %d pages in use, %d segments, %d records of %d transactions\n%s",
		r.File.Path, r.File.UsedPages, r.Segments, r.Records, len(r.Contents.Transactions), but)
	return err
}

// tornMeans is said of a log with bolt.FileInfo.Torn.
const tornMeans = "last commit, which is torn and left out: a power cut came before anybody was told of it, or the disk damaged it later"

// WriteFault says as JSON what is wrong with a log.
func WriteFault(w io.Writer, path string, fault error) error {
	return writeJSON(w, fields{{"file", path}, {"ok", false}, {"error", fault.Error()}})
}
