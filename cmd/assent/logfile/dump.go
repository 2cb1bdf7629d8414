package logfile

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// DumpOptions choose what Dump shows.
type DumpOptions struct {
	// Tx, if it is not zero, leaves out the records of other transactions, and the
	// headers.
	Tx participant.TxID
	// Full shows all bytes of data; as JSON they always are.
	Full bool
	// JSON writes one object for each record and line.
	JSON bool
}

// ErrNoRecord says that a log holds nothing of a transaction.
var ErrNoRecord = errors.New("the log holds no record of this transaction")

// Dump writes every record of the log, in the order of terms and segments. It
// changes nothing. If the log is written meanwhile, what was written to w is not to
// be relied upon: the error Is wal.ErrLocked.
func Dump(ctx context.Context, path string, w io.Writer, o DumpOptions) (err error) {
	r, err := bolt.OpenReader(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buffered := bufio.NewWriter(w)
	d := dumper{DumpOptions: o, out: buffered}
	if err := errors.Join(d.log(ctx, r), buffered.Flush()); err != nil {
		return fmt.Errorf("dump log %s: %w", path, err)
	}
	if !o.Tx.IsZero() && !d.found {
		return fmt.Errorf("dump log %s: %s: %w", path, o.Tx, ErrNoRecord)
	}
	return nil
}

type dumper struct {
	DumpOptions
	out   io.Writer
	found bool
}

func (d *dumper) log(ctx context.Context, r *bolt.Reader) error {
	if !d.JSON {
		if err := d.line("TERM", "SEGMENT", "KIND", "TRANSACTION", "SAYS"); err != nil {
			return err
		}
	}
	for _, term := range r.Terms() {
		err := r.Scan(ctx, term, func(seq uint64, segment []byte) error { return d.segment(term, seq, segment) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) segment(term participant.Term, seq uint64, segment []byte) error {
	for len(segment) > 0 {
		r, rest, err := record.Next(segment)
		if err != nil {
			return fmt.Errorf("segment %d: %w", seq, err)
		}
		segment = rest
		if !d.Tx.IsZero() && r.TxID() != d.Tx {
			continue
		}
		d.found = true
		if err := d.record(term, seq, r); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) record(term participant.Term, seq uint64, r record.Record) error {
	if !d.JSON {
		return d.line(term.String(), fmt.Sprint(seq), r.Kind().String(), cmp.Or(txText(r.TxID()), "-"), fieldsOf(r).text(d.Full))
	}
	line := fields{{"term", term.String()}, {"segment", seq}, {"kind", r.Kind().String()}}
	line.add("transaction", txText(r.TxID()))
	return json.NewEncoder(d.out).Encode(append(line, fieldsOf(r)...))
}

func (d *dumper) line(term, segment, kind, tx, says string) error {
	line := fmt.Sprintf("%-11s  %7s  %-9s  %-44s  %s", term, segment, kind, tx, says)
	_, err := fmt.Fprintln(d.out, strings.TrimRight(line, " "))
	return err
}
