package output

import (
	"bytes"
	"encoding/json"
	"iter"

	"go.yaml.in/yaml/v3"
)

// Field is one thing that is said.
type Field struct {
	Name  string
	Value any
}

// Fields are an object whose fields keep their order.
type Fields []Field

// Add appends a field.
func (f *Fields) Add(name string, value any) { *f = append(*f, Field{name, value}) }

// All returns names and values.
func (f Fields) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, one := range f {
			if !yield(one.Name, one.Value) {
				return
			}
		}
	}
}

// MarshalJSON keeps the order.
func (f Fields) MarshalJSON() ([]byte, error) { return MarshalOrdered(f.All()) }

// MarshalOrdered writes a JSON object whose fields keep their order.
func MarshalOrdered(fields iter.Seq2[string, any]) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	separator := byte('{')
	for name, value := range fields {
		b.WriteByte(separator)
		separator = ','
		if err := e.Encode(name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := e.Encode(value); err != nil {
			return nil, err
		}
	}
	if separator == '{' {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// MarshalYAML keeps the order.
func (f Fields) MarshalYAML() (any, error) {
	mapping := &yaml.Node{Kind: yaml.MappingNode}
	for name, value := range f.All() {
		var key, content yaml.Node
		key.SetString(name)
		if err := content.Encode(value); err != nil {
			return nil, err
		}
		mapping.Content = append(mapping.Content, &key, &content)
	}
	return mapping, nil
}
