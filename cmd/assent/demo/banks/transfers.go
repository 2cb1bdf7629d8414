package banks

import (
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// Transfer moves money from an account of one bank to an account of the other.
type Transfer struct {
	From, To string
	Amount   int64 // in coins, above zero
}

func (t Transfer) String() string {
	return fmt.Sprintf("%s -> %s, %s", t.From, t.To, demo.Count(t.Amount))
}

// reversed sends the money back.
func (t Transfer) reversed() Transfer { return Transfer{From: t.To, To: t.From, Amount: t.Amount} }

// sample is what runs without a file: one transfer in ten asks for more than the
// sender can have.
//
//go:embed transfers.csv
var sample []byte

// Bounds of an input file.
const (
	maxFile   = 8 << 20 // bytes
	maxAmount = 1_000_000_000
)

var columns = []string{"from", "to", "amount"}

// Sample returns the built-in transfers.
func Sample() ([]Transfer, error) { return parseTransfers("built-in transfers", sample) }

// ReadTransfers reads a CSV file with the header from,to,amount. The file is
// valid as a whole or not at all; an error names the file, and where it can the
// line and the column, as FILE:LINE:COLUMN. Lines and columns count from 1,
// columns in bytes.
func ReadTransfers(path string) ([]Transfer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err // it names the file
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory, want a CSV file", path)
	}
	// A device or a pipe has no size to look at beforehand.
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MiB", path, maxFile>>20)
	}
	return parseTransfers(path, text)
}

func parseTransfers(name string, text []byte) ([]Transfer, error) {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // spreadsheets begin UTF-8 so
	reader := csv.NewReader(bytes.NewReader(text))
	reader.FieldsPerRecord = -1 // to say which column is missing
	reader.ReuseRecord = true
	rows := rowReader{name: name, csv: reader}
	if err := rows.header(); err != nil {
		return nil, err
	}
	var transfers []Transfer
	payable := false
	for {
		t, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		transfers = append(transfers, t)
		payable = payable || t.Amount <= openingBalance
	}
	switch {
	case len(transfers) == 0:
		return nil, fmt.Errorf("%s: no transfers after the header", name)
	case !payable:
		return nil, fmt.Errorf("%s: no transfer can be paid: every account begins with %s", name, demo.Count(openingBalance))
	}
	return transfers, nil
}

type rowReader struct {
	name string
	csv  *csv.Reader
}

func (r *rowReader) header() error {
	fields, err := r.read()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: empty, want the header %s and then transfers", r.name, strings.Join(columns, ","))
	}
	if err != nil {
		return err
	}
	for i, want := range columns {
		if i >= len(fields) || fields[i] != want {
			return r.wrong(min(i, len(fields)-1), "the header is %q, want %s", strings.Join(fields, ","), strings.Join(columns, ","))
		}
	}
	if len(fields) > len(columns) {
		return r.wrong(len(columns), "the header has more columns than %s", strings.Join(columns, ","))
	}
	return nil
}

// next returns io.EOF after the last row.
func (r *rowReader) next() (Transfer, error) {
	fields, err := r.read()
	if err != nil {
		return Transfer{}, err
	}
	switch {
	case len(fields) < len(columns):
		return Transfer{}, r.wrong(len(fields)-1, "column %s is missing", columns[len(fields)])
	case len(fields) > len(columns):
		return Transfer{}, r.wrong(len(columns), "more columns than %s", strings.Join(columns, ","))
	}
	for i, account := range fields[:2] {
		if bankOf(account) == "" {
			return Transfer{}, r.wrong(i, "unknown account %q: %s", account, Accounts())
		}
	}
	t := Transfer{From: fields[0], To: fields[1]}
	switch bank := bankOf(t.To); {
	case t.From == t.To:
		return Transfer{}, r.wrong(1, "from and to are both %s", t.To)
	case bankOf(t.From) == bank:
		return Transfer{}, r.wrong(1, "%s and %s are both in %s: a transfer goes from one bank to the other", t.From, t.To, bank)
	}
	t.Amount, err = strconv.ParseInt(fields[2], 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && t.Amount > maxAmount:
		return Transfer{}, r.wrong(2, "amount %s is out of range, want 1 to %d", fields[2], maxAmount)
	case err != nil:
		return Transfer{}, r.wrong(2, "amount %q is not a whole number", fields[2])
	case t.Amount <= 0:
		return Transfer{}, r.wrong(2, "amount %s is not above zero", fields[2])
	}
	return t, nil
}

func (r *rowReader) read() ([]string, error) {
	fields, err := r.csv.Read()
	var malformed *csv.ParseError
	if errors.As(err, &malformed) {
		return nil, fmt.Errorf("%s:%d:%d: %w", r.name, malformed.Line, malformed.Column, malformed.Err)
	}
	for i := range fields {
		fields[i] = strings.TrimSpace(fields[i])
	}
	return fields, err
}

// wrong says where the given field of the current row is.
func (r *rowReader) wrong(field int, format string, args ...any) error {
	line, column := r.csv.FieldPos(field)
	return fmt.Errorf("%s:%d:%d: %s", r.name, line, column, fmt.Sprintf(format, args...))
}

// feed gives out transfers for as long as they are wanted. Every second pass over
// them sends the money back, so that no account runs dry.
type feed struct {
	transfers []Transfer
	given     int
}

func (f *feed) next() Transfer {
	pass, i := f.given/len(f.transfers), f.given%len(f.transfers)
	f.given++
	if pass%2 == 1 {
		return f.transfers[i].reversed()
	}
	return f.transfers[i]
}

// nextWhere gives out the next transfer that will do, if there is one.
func (f *feed) nextWhere(does func(Transfer) bool) (Transfer, bool) {
	start := f.given
	for range 2 * len(f.transfers) {
		if t := f.next(); does(t) {
			return t, true
		}
	}
	f.given = start
	return Transfer{}, false
}
