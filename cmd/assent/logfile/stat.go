package logfile

import (
	"encoding/hex"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// state says how the log was left.
func (r *Report) state() string {
	switch {
	case r.File.Snapshot:
		return "snapshot"
	case r.File.Closed:
		return "closed"
	default:
		return "open"
	}
}

var stateMeans = map[string]string{
	"snapshot": "a snapshot, to be put in place with `assent log restore`",
	"closed":   "closed cleanly",
	"open":     "in use, or its process died; then the next open copies what it holds",
}

// fields are what `assent log stat` shows.
func (r *Report) fields(now time.Time) (f fields) {
	file, c := r.File, r.Contents
	f.add("file", file.Path)
	f.add("format", uint64(file.Format))
	f.add("identity", hex.EncodeToString(file.Identity[:]))
	f.add("domain", c.Domain)
	f.add("state", r.state())
	f.add("torn", file.Torn)
	f.add("bytes", file.Size)
	f.add("pages", file.Pages)
	f.add("pages_used", file.UsedPages)
	f.add("page_bytes", file.PageSize)
	f.add("terms_opened", uint64(file.Opened))
	f.add("epoch", file.Epoch)
	f.add("segments", r.Segments)
	f.add("records", r.Records)
	f.add("in_doubt", r.InDoubt)
	f.add("committed", r.Committed)
	f.add("rolled_back", r.RolledBack)
	f.add("undecided", r.Undecided)
	f.add("oldest_in_doubt", timeText(r.Oldest))
	if !r.Oldest.IsZero() {
		f.add("oldest_in_doubt_seconds", int64(now.Sub(r.Oldest)/time.Second))
	}
	f.add("retained", r.Retained)
	f.add("quarantined", c.Words.Quarantined())
	f.add("quarantine", wordFields(c.Words.Quarantine))
	f.add("acceptance", wordFields(c.Words.Acceptance))
	return append(f, field{"terms", r.terms()})
}

// terms lists every term of the log, and what the file holds of it.
func (r *Report) terms() []fields {
	terms := marksFields(r.Contents.Terms)
	for i, m := range r.Contents.Terms {
		for _, held := range r.File.Terms {
			if held.Term == m.Term {
				terms[i].add("epoch", held.Epoch)
				terms[i].add("owner", held.Owner)
				terms[i].add("oldest_segment", held.Oldest)
				terms[i].add("newest_segment", held.Newest)
			}
		}
	}
	return terms
}

// shownTerms is how many terms a table shows: those that were opened last.
const shownTerms = 8

// WriteStat writes the report, as a table or as one JSON object.
func (r *Report) WriteStat(w io.Writer, asJSON bool, now time.Time) error {
	if asJSON {
		return writeJSON(w, r.fields(now))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	file, c := r.File, r.Contents
	row("file", "%s", file.Path)
	row("state", "%s", stateMeans[r.state()])
	if file.Torn {
		row("torn", "%s", tornMeans)
	}
	row("domain", "%s", c.Domain)
	row("identity", "%x, format %d", file.Identity, file.Format)
	row("size", "%d bytes, %d pages of %d bytes, %d used and %d free", file.Size, file.Pages, file.PageSize, file.UsedPages, file.Pages-file.UsedPages)
	row("terms", "%d opened so far, epoch %d", file.Opened, file.Epoch)
	row("segments", "%d with %d records", r.Segments, r.Records)
	row("in doubt", "%d: %d committed, %d rolled back, %d undecided", r.InDoubt, r.Committed, r.RolledBack, r.Undecided)
	if !r.Oldest.IsZero() {
		row("oldest", "in doubt since %s (%s)", timeText(r.Oldest), now.Sub(r.Oldest).Round(time.Second))
	}
	row("retained", "%d outcomes", r.Retained)
	if q := c.Words.Quarantine; q.Number > 0 {
		status := "ended"
		if c.Words.Quarantined() {
			status = "on: coordinators are in safe mode; ends with `assent log accept`"
		}
		row("quarantine", "%s; since %s: %s", status, timeText(q.At), quoted(q.Reason))
	}
	if a := c.Words.Acceptance; a.Number > 0 {
		row("acceptance", "of terms up to %s, on %s: %s", a.Term, timeText(a.At), quoted(a.Reason))
	}
	terms := r.terms()
	if earlier := len(terms) - shownTerms; earlier > 0 {
		row("", "%d earlier terms; -o json lists all", earlier)
		terms = terms[earlier:]
	}
	for _, one := range terms {
		row("term "+fmt.Sprint(one[0].value), "%s", one[1:].text(true))
	}
	return t.Flush()
}
