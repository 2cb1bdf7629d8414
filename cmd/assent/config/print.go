package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Value is a setting that is in force.
type Value struct {
	Key, Text, Origin string
}

// Values returns all settings, participants' last.
func (l *Loaded) Values() (all []Value) {
	list := func(s []Setting) {
		for _, one := range s {
			all = append(all, Value{one.Key, one.Text(), l.Origin(one.Key)})
		}
	}
	list(Settings(&l.Config))
	for _, name := range slices.Sorted(maps.Keys(l.Participants)) {
		p := l.Participants[name]
		list(settings(joined("participants", name), reflect.ValueOf(&p).Elem()))
	}
	return all
}

// YAML returns a document that Load reads back, with what each value is for, or where
// it comes from, beside it. Secrets are not in it.
func (l *Loaded) YAML(origins bool) *yaml.Node {
	return l.node("", reflect.ValueOf(l.Config), "", origins)
}

func (l *Loaded) node(key string, v reflect.Value, help string, origins bool) *yaml.Node {
	var node yaml.Node
	switch v.Kind() {
	case reflect.Struct:
		node.Kind = yaml.MappingNode
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if tag, ok := field.Tag.Lookup("key"); ok && !omitted(key, v.Field(i)) {
				node.Content = append(node.Content, text(tag), l.node(joined(key, tag), v.Field(i), field.Tag.Get("help"), origins))
			}
		}
	case reflect.Map:
		node.Kind = yaml.MappingNode
		for _, name := range slices.Sorted(maps.Keys(l.Participants)) {
			node.Content = append(node.Content, text(name), l.node(joined(key, name), reflect.ValueOf(l.Participants[name]), "", origins))
		}
	case reflect.Slice:
		node.Kind, node.Style = yaml.SequenceNode, yaml.FlowStyle
		for i := range v.Len() {
			node.Content = append(node.Content, text(v.Index(i).String()))
		}
	default:
		// Numbers and words that YAML knows stay plain: they are read as text anyway.
		node.SetString(textOf(v))
		if v.Kind() != reflect.String {
			node.Tag = ""
		}
		node.LineComment = help
		if origins {
			node.LineComment = l.Origin(key)
		}
	}
	return &node
}

// omitted reports whether there is nothing to be said: of optional sections, and of
// participants, each of which has but a few settings.
func omitted(key string, v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Struct, reflect.Map, reflect.Slice, reflect.String:
		return v.IsZero()
	default:
		return v.IsZero() && strings.HasPrefix(key, "participants.")
	}
}

func text(s string) *yaml.Node {
	var node yaml.Node
	node.SetString(s)
	return &node
}
