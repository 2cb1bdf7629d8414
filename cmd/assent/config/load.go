package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
)

// Sources are where values come from.
type Sources struct {
	// Path is the file; "" for none.
	Path string
	// Environment is that of the process, as os.Environ returns it.
	Environment []string
	// Flags are the values of flags that were given, by key.
	Flags map[string]string
}

// Loaded is a configuration, and where each value comes from.
type Loaded struct {
	Config
	// Warnings are what is likely to be a mistake, but may be meant.
	Warnings []string

	path    string
	origins map[string]Origin
}

// loader gathers what is wrong on the way.
type loader struct {
	Loaded
	environment map[string]string
	problems    Problems
	unread      bool // the file is no YAML
}

// Load reads a configuration and checks it. What is wrong with it is all in the error,
// which then is a Problems; any other says that the file could not be read.
func Load(s Sources) (*Loaded, error) {
	l := &loader{Loaded: Loaded{Config: Default(), path: s.Path, origins: map[string]Origin{}}, environment: map[string]string{}}
	for _, variable := range s.Environment {
		if name, value, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ASSENT_") {
			l.environment[name] = value
		}
	}
	if s.Path != "" {
		text, err := os.ReadFile(s.Path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%w; 'assent config print --domain NAME' prints one to begin with", err)
		}
		if err != nil {
			return nil, err
		}
		l.file(text)
	}
	l.overrides(s.Flags)
	l.unknownVariables()
	if !l.unread { // else each key would seem to be missing
		l.check()
	}
	if len(l.problems) > 0 {
		return nil, l.problems.sorted()
	}
	return &l.Loaded, nil
}

// overrides puts the environment above the file, and flags above both.
func (l *loader) overrides(flags map[string]string) {
	for _, s := range Settings(&l.Config) {
		if text := l.environment[Environment(s.Key)]; text != "" {
			l.set(Origin{Text: Environment(s.Key)}, s.Key, text, s.value)
		}
		if text, given := flags[s.Key]; given {
			l.set(Origin{Text: "--" + s.Flag()}, s.Key, text, s.value)
		}
	}
}

func (l *loader) set(at Origin, key, text string, v reflect.Value) {
	if err := set(v, text); err != nil {
		l.problem(at, key, err.Error(), "")
		return
	}
	l.origins[key] = at
}

// wrong says what is wrong with the value of a key, unless something was said of it
// before.
func (l *loader) wrong(key, what, fix string) {
	if !slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Key == key }) {
		l.problem(l.place(key), key, what, fix)
	}
}

func (l *loader) problem(at Origin, key, what, fix string) {
	l.problems = append(l.problems, Problem{Where: at.Text, Key: key, What: what, Fix: fix, line: at.line})
}

// Origin is where the value of a key comes from.
func (l *Loaded) Origin(key string) string { return l.at(key).Text }

func (l *Loaded) at(key string) Origin {
	if at, ok := l.origins[key]; ok {
		return at
	}
	return Origin{Text: "default"}
}

// place is where to look for what is wrong with a key: where it is set, or else where
// what it belongs to is.
func (l *Loaded) place(key string) Origin {
	for above := key; above != ""; {
		if at, ok := l.origins[above]; ok {
			return at
		}
		above = above[:max(strings.LastIndexByte(above, '.'), 0)]
	}
	if l.path != "" {
		return Origin{Text: l.path}
	}
	return Origin{Text: "configuration"}
}

// others are variables that are not settings of a server.
var others = []string{
	"ASSENT_SERVER", "ASSENT_ADMIN", "ASSENT_TOKEN", "ASSENT_TOKEN_FILE", "ASSENT_CA", "ASSENT_CERT", "ASSENT_KEY", "ASSENT_TIMEOUT",
	"ASSENT_CONFIG", "ASSENT_REQUIRE", "ASSENT_INSTALL", "ASSENT_TEST_AS_PROGRAM",
}

const secretVariable = "ASSENT_SECRET_"

// unknownVariables warns of those that may be misspelt: they may also be another
// program's.
func (l *loader) unknownVariables() {
	known := map[string]bool{}
	for _, name := range others {
		known[name] = true
	}
	var names []string
	for _, s := range Settings(&l.Config) {
		known[Environment(s.Key)] = true
		names = append(names, Environment(s.Key))
	}
	for name := range l.Participants {
		known[secretVariable+secretSuffix(name)] = true
	}
	for name := range l.environment {
		if !known[name] {
			warning := name + " sets nothing"
			if near := nearest(name, names); near != "" {
				warning += ": did you mean " + near + "?"
			}
			l.Warnings = append(l.Warnings, warning)
		}
	}
}

// secretSuffix is a participant's name as variables have it.
func secretSuffix(name string) string {
	return strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}
