package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// object is a JSON object that has each of its names once. encoding/json takes the last of
// two fields, and takes "VOTE" for "vote": a body could then say one thing to who wrote it
// and another to who reads it.
type object []field

// field is a field and its value as it stands in the body.
type field struct {
	name  string
	value []byte
}

const (
	// maxFields bounds the fields of an object (R12).
	maxFields = 64
	// usualFields is how many there are as a rule.
	usualFields = 12
)

// readObject reads exactly one JSON object, of which it keeps parts of the body.
func readObject(body []byte) (object, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not UTF-8")
	}
	if !json.Valid(body) {
		var any json.RawMessage
		return nil, fmt.Errorf("the body is not JSON: %w", json.Unmarshal(body, &any))
	}
	rest := space(body)
	if rest[0] != '{' {
		return nil, errors.New("the body is not a JSON object")
	}
	// From here on it is known to be well formed.
	o := make(object, 0, usualFields)
	for rest = space(rest[1:]); rest[0] != '}'; rest = space(rest) {
		if rest[0] == ',' {
			rest = space(rest[1:])
		}
		name, after := split(rest)
		value, after := split(space(space(after)[1:])) // behind the colon
		rest = after
		text, err := readString(name)
		if err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
		if o.find(text) != nil {
			return nil, fmt.Errorf("the body has %q twice", clipped(text))
		}
		if len(o) == maxFields {
			return nil, fmt.Errorf("the body has more than %d fields", maxFields)
		}
		o = append(o, field{text, value})
	}
	return o, nil
}

// space returns what comes behind white space.
func space(text []byte) []byte { return bytes.TrimLeft(text, " \t\r\n") }

// split returns the value that well-formed JSON begins with, and what comes behind it.
func split(text []byte) (value, rest []byte) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return text[:i+1], text[i+1:]
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return text[:i], text[i:] // behind a number or a word
			}
			if depth--; depth == 0 {
				return text[:i+1], text[i+1:]
			}
		case ',', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return text[:i], text[i:]
			}
		}
	}
	return text, nil
}

// readString reads a well-formed value as a string.
func readString(value []byte) (string, error) {
	if value[0] == '"' && bytes.IndexByte(value, '\\') < 0 {
		return string(value[1 : len(value)-1]), nil
	}
	var s string
	err := json.Unmarshal(value, &s)
	return s, err
}

func (o object) find(name string) []byte {
	for _, f := range o {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// get reads a field, if it is there and not null.
func (o object) get(name string, value any) (there bool, err error) {
	raw := o.find(name)
	if raw == nil || string(raw) == "null" {
		return false, nil
	}
	if text, ok := value.(*string); ok {
		*text, err = readString(raw)
	} else {
		err = json.Unmarshal(raw, value)
	}
	if err != nil {
		return true, fmt.Errorf("field %q: %w", name, err)
	}
	return true, nil
}

// need reads a field that has to be there.
func (o object) need(name string, value any) error {
	there, err := o.get(name, value)
	if err == nil && !there {
		err = fmt.Errorf("field %q is missing", name)
	}
	return err
}
