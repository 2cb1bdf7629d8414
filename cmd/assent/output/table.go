package output

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Rows prints a table with a header.
func Rows(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		if _, err := fmt.Fprintln(t, Line(row...)); err != nil {
			return err
		}
	}
	return t.Flush()
}

// Line returns the cells of a table's row. An empty one is a dash, so that columns
// stay countable; the last one is left empty.
func Line(cells ...string) string {
	clean := make([]string, len(cells))
	for i, cell := range cells {
		clean[i] = Clean(cell)
		if clean[i] == "" && i < len(cells)-1 {
			clean[i] = "-"
		}
	}
	return strings.TrimRight(strings.Join(clean, "\t"), "\t")
}

// Pairs prints names and values, one pair a line. Those without a value are left out.
func Pairs(w io.Writer, pairs ...[2]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, pair := range pairs {
		if pair[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(t, "%s\t%s\n", pair[0], Clean(pair[1])); err != nil {
			return err
		}
	}
	return t.Flush()
}

// Clean returns text that does nothing to a terminal or a table: what participants
// and clients say is printed, too.
func Clean(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		quoted := strconv.Quote(text)
		return quoted[1 : len(quoted)-1]
	}
	return text
}
