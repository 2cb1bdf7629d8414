package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// object is a JSON object that has each of its names once. encoding/json takes the last of
// two fields, and takes "VOTE" for "vote": a body could then say one thing to who wrote it
// and another to who reads it.
type object map[string]json.RawMessage

// maxFields bounds the fields of an object (R12).
const maxFields = 64

// readObject reads exactly one JSON object.
func readObject(body []byte) (object, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	o := object{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
		name, _ := token.(string) // it is one, where a name has to be
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("the body has %q twice", clipped(name))
		}
		if len(o) == maxFields {
			return nil, fmt.Errorf("the body has more than %d fields", maxFields)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, fmt.Errorf("the body is not JSON: %w", err)
		}
		o[name] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("the body is not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("the body goes on after its JSON object")
	}
	return o, nil
}

// get reads a field, if it is there and not null.
func (o object) get(name string, value any) (there bool, err error) {
	raw, there := o[name]
	if !there || string(raw) == "null" {
		return false, nil
	}
	if err := json.Unmarshal(raw, value); err != nil {
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
