package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Setting is one value with a key of its own.
type Setting struct {
	// Key is its path, such as timeouts.call.
	Key, Help string

	value reflect.Value
}

// Flag is the name of its flag.
func (s Setting) Flag() string { return Flag(s.Key) }

// Flag is the name of a key's flag.
func Flag(key string) string { return strings.NewReplacer(".", "-", "_", "-").Replace(key) }

// Text is the value as it is written.
func (s Setting) Text() string { return textOf(s.value) }

// Settings returns those of a configuration but for its participants', in their order.
func Settings(c *Config) []Setting { return settings("", reflect.ValueOf(c).Elem()) }

func settings(path string, v reflect.Value) (all []Setting) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		tag, ok := field.Tag.Lookup("key")
		if !ok || field.Type.Kind() == reflect.Map {
			continue
		}
		key := joined(path, tag)
		if field.Type.Kind() == reflect.Struct {
			all = append(all, settings(key, v.Field(i))...)
			continue
		}
		all = append(all, Setting{key, field.Tag.Get("help"), v.Field(i)})
	}
	return all
}

func joined(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// set reads text into a value.
func set(v reflect.Value, text string) error {
	switch v.Interface().(type) {
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration: write one such as 500ms, 30s or 2m", text)
		}
		v.SetInt(int64(d))
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		v.SetInt(int64(n))
	case bool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		v.SetBool(text == "true")
	case []string:
		v.Set(reflect.ValueOf(strings.Split(text, ",")))
	default:
		v.SetString(text)
	}
	return nil
}

// textOf is what set reads.
func textOf(v reflect.Value) string {
	if list, ok := v.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v.Interface())
}

// Kind is what its value is: duration, number, bool or text.
func (s Setting) Kind() string {
	switch s.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case int:
		return "number"
	case bool:
		return "bool"
	default:
		return "text"
	}
}
