// Package output prints what commands answer: as a table for people, as JSON or YAML
// for programs.
package output

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Format is how an answer is printed.
type Format string

// The formats.
const (
	Table Format = "table"
	JSON  Format = "json"
	YAML  Format = "yaml"
)

// ParseFormat reads the value of --output, which may be one of those that are allowed.
func ParseFormat(text string, allowed ...Format) (Format, error) {
	var names []string
	for _, f := range allowed {
		if text == string(f) {
			return f, nil
		}
		names = append(names, string(f))
	}
	last := len(names) - 1
	return "", fmt.Errorf("--output %q: want %s or %s", text, strings.Join(names[:last], ", "), names[last])
}

// Write prints a value as JSON or YAML. A list of n things is [] if n is 0.
func Write(w io.Writer, f Format, value any) error {
	if f == YAML {
		e := yaml.NewEncoder(w)
		e.SetIndent(2)
		if err := e.Encode(value); err != nil {
			return err
		}
		return e.Close()
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// WriteEach prints one of many values: as JSON on a line of its own, as YAML as a
// document of its own.
func WriteEach(w io.Writer, f Format, value any) error {
	if f != YAML {
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		return e.Encode(value)
	}
	if _, err := fmt.Fprintln(w, "---"); err != nil {
		return err
	}
	return Write(w, f, value)
}
