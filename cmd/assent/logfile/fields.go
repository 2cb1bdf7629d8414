// Package logfile shows logs to operators and puts them right: what the commands
// `assent log …` do.
package logfile

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/assent-tm/assent/cmd/assent/output"
)

// field is one thing that a record says.
type field struct {
	name  string
	value any // string, a number, bool, []string, data, fields, []fields or list
}

// fields are shown in their order, as text and as a JSON object. Those that say
// nothing are left out.
type fields []field

// data is a participant's own bytes.
type data []byte

// list is shown as its length, unless all is asked for: a log may have been opened a
// hundred thousand times.
type list []fields

// shownData is how many bytes of data are shown as text.
const shownData = 16

func (f *fields) add(name string, value any) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return
		}
	case bool:
		if !v {
			return
		}
	case []string:
		if len(v) == 0 {
			return
		}
	case data:
		if len(v) == 0 {
			return
		}
	case fields:
		if len(v) == 0 {
			return
		}
	case []fields:
		if len(v) == 0 {
			return
		}
	case list:
		if len(v) == 0 {
			return
		}
	}
	*f = append(*f, field{name, value})
}

// MarshalJSON keeps the order.
func (f fields) MarshalJSON() ([]byte, error) {
	return output.MarshalOrdered(func(yield func(string, any) bool) {
		for _, one := range f {
			if !yield(one.name, one.value) {
				return
			}
		}
	})
}

// MarshalText writes data as digits.
func (d data) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d)), nil }

// text returns the fields in one line; full shows all data.
func (f fields) text(full bool) string {
	var parts []string
	for _, one := range f {
		if one.value == true {
			parts = append(parts, quoted(one.name))
			continue
		}
		parts = append(parts, quoted(one.name)+"="+valueText(one.value, full))
	}
	return strings.Join(parts, " ")
}

func valueText(value any, full bool) string {
	switch v := value.(type) {
	case string:
		return quoted(v)
	case []string:
		return strings.Join(v, ",")
	case data:
		if full || len(v) <= shownData {
			return hex.EncodeToString(v)
		}
		return fmt.Sprintf("%x…(%d bytes)", []byte(v[:shownData]), len(v))
	case list:
		if !full {
			return fmt.Sprint(len(v))
		}
		return valueText([]fields(v), full)
	case fields:
		return "{" + v.text(full) + "}"
	case []fields:
		parts := make([]string, len(v))
		for i, one := range v {
			parts[i] = valueText(one, full)
		}
		return "[" + strings.Join(parts, " ") + "]"
	default:
		return fmt.Sprint(v)
	}
}

// quoted returns the text as it is, or in quotes if it would not stay one word, or
// would do something to a terminal.
func quoted(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` || s == "" || strings.ContainsAny(s, " ={}[]") {
		return q
	}
	return s
}

func writeJSON(w io.Writer, f fields) error { return output.Write(w, output.JSON, f) }
