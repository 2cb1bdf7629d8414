package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDocument is more than any configuration has (R12).
const maxDocument = 1 << 20

// file reads the document into the configuration. Each key has to be known, and may
// be there once.
func (l *loader) file(text []byte) {
	if len(text) > maxDocument {
		l.problem(Origin{Text: l.path}, "", fmt.Sprintf("%d bytes are too many for a configuration", len(text)), "")
		return
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF): // empty
		return
	case err != nil:
		l.syntax(err)
		return
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		l.problem(fileOrigin(l.path, more.Line), "", "a second document begins", "keep one, without a line ---")
	}
	l.mapping("", document.Content[0], reflect.ValueOf(&l.Config).Elem())
}

// syntax takes the line out of the library's text.
func (l *loader) syntax(err error) {
	l.unread = true
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	origin := Origin{Text: l.path}
	if number, rest, ok := strings.Cut(strings.TrimPrefix(text, "line "), ": "); ok {
		if line, err := strconv.Atoi(number); err == nil {
			origin, text = fileOrigin(l.path, line), rest
		}
	}
	l.problem(origin, "", "this is not YAML: "+text, "indent with spaces, and quote values with special characters")
}

// mapping reads a node into a struct.
func (l *loader) mapping(path string, node *yaml.Node, v reflect.Value) {
	fields := map[string]reflect.Value{}
	for i := range v.NumField() {
		if tag, ok := v.Type().Field(i).Tag.Lookup("key"); ok {
			fields[tag] = v.Field(i)
		}
	}
	l.eachPair(path, node, func(name string, at Origin, value *yaml.Node) {
		key := joined(path, name)
		field, known := fields[name]
		switch {
		case !known:
			l.unknownKey(at, key, name, slices.Sorted(maps.Keys(fields)))
		case field.Kind() == reflect.Struct:
			l.origins[key] = at
			l.mapping(key, value, field)
		case field.Kind() == reflect.Map:
			l.participants(key, value)
		case field.Kind() == reflect.Slice:
			l.list(at, key, value, field)
		default:
			l.scalar(at, key, value, field)
		}
	})
}

// secretKeys are what people write into files that others read.
var secretKeys = []string{"secret", "secrets", "password", "token", "tokens"}

func (l *loader) unknownKey(at Origin, key, name string, known []string) {
	switch near := nearest(name, known); {
	case slices.Contains(secretKeys, name):
		l.problem(at, key, "no secret stands in this file", "put it into a file of its own and give its name: secret_file, auth.tokens_file")
	case near != "":
		l.problem(at, key, "there is no such key", fmt.Sprintf("did you mean %s?", near))
	default:
		l.problem(at, key, "there is no such key", "known here are "+strings.Join(known, ", "))
	}
}

// eachPair calls do for each key of a mapping.
func (l *loader) eachPair(path string, node *yaml.Node, do func(name string, at Origin, value *yaml.Node)) {
	node = resolved(node)
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return // a key without anything below
	}
	if node.Kind != yaml.MappingNode {
		l.problem(fileOrigin(l.path, node.Line), path, "want keys with values below it", "")
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, at := node.Content[i].Value, fileOrigin(l.path, node.Content[i].Line)
		if line, twice := seen[name]; twice {
			l.problem(at, joined(path, name), fmt.Sprintf("it is in line %d, too", line), "keep one")
			continue
		}
		seen[name] = node.Content[i].Line
		do(name, at, resolved(node.Content[i+1]))
	}
}

func resolved(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func (l *loader) scalar(at Origin, key string, node *yaml.Node, v reflect.Value) {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" {
		l.problem(at, key, "it has no value", "give one, or leave the key out for the default")
		return
	}
	l.set(at, key, node.Value, v)
}

func (l *loader) list(at Origin, key string, node *yaml.Node, v reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		l.problem(at, key, "want a list", "write it as [a, b], or a line beginning with - for each")
		return
	}
	values := []string{}
	for _, item := range node.Content {
		if item = resolved(item); item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
			l.problem(fileOrigin(l.path, item.Line), key, "want a list of single values", "")
			return
		}
		values = append(values, item.Value)
	}
	v.Set(reflect.ValueOf(values))
	l.origins[key] = at
}

func (l *loader) participants(path string, node *yaml.Node) {
	l.Participants = map[string]Participant{}
	l.eachPair(path, node, func(name string, at Origin, value *yaml.Node) {
		var p Participant
		l.origins[joined(path, name)] = at
		l.mapping(joined(path, name), value, reflect.ValueOf(&p).Elem())
		l.Participants[name] = p
	})
}
