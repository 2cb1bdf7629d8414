package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// The rules of the house: what holds for the whole tree, and no compiler checks.
// Each list below is the rule itself; changing one is changing ARCHITECTURE.md.

const (
	root   = "../.."
	module = "github.com/assent-tm/assent"
)

// mayImport says for each package which of ours it may import, besides in tests.
// Adapters of resource managers without a line of their own get that of "participant/*".
// cmd and recovery/crashtest put the parts together and may import everything; the
// checker, a second opinion, has a line of its own and imports nothing.
var mayImport = map[string][]string{
	"participant":                                    {},
	"participant/*":                                  {"participant"},
	"participant/participanttest":                    {"participant"},
	"participant/participanttest/capability":         {},
	"participant/participanttest/servers":            {},
	"participant/participanttest/servers/natsserver": {"participant/participanttest/servers"},
	"participant/nats":                               {"participant", "participant/staging"},
	"participant/redis":                              {"participant", "participant/staging"},
	"participant/remote":                             {"participant", "coordinator/api"},

	"wal/record":  {"participant"},
	"wal":         {"participant", "wal/record"},
	"wal/bolt":    {"participant", "wal/record", "wal"},
	"wal/etcd":    {"participant", "wal/record", "wal"},
	"wal/waltest": {"participant", "wal/record", "wal"},

	// wal and protocol never see each other.
	"coordinator/protocol":        {"participant", "wal/record"},
	"recovery":                    {"participant", "wal/record", "wal", "coordinator/protocol"},
	"recovery/crashtest/history":  {},
	"coordinator":                 {"participant", "wal/record", "wal", "coordinator/protocol", "recovery"},
	"coordinator/api":             {"coordinator/api"},
	"coordinator/coordinatortest": {"participant", "participant/participanttest", "wal/bolt", "coordinator"},
	"coordinator/client":          {"participant", "participant/remote", "wal/record", "coordinator", "coordinator/api", "coordinator/protocol"},
	"coordinator/server":          {"participant", "participant/remote", "wal/record", "wal", "recovery", "coordinator", "coordinator/api", "coordinator/protocol"},
}

var mayImportEverything = []string{"cmd/", "recovery/crashtest"}

// core is what every embedder links. Whatever it reaches, directly or not, is in coreModules.
var (
	core = []string{
		"participant", "wal/record", "wal", "wal/bolt", "coordinator/protocol", "recovery", "coordinator",
	}
	coreModules = []string{
		"github.com/google/uuid",
		"github.com/vmihailenco/msgpack/v5",
		"go.etcd.io/bbolt", "golang.org/x/sys", // bbolt links sys, too
		"go.uber.org/zap", "go.uber.org/multierr", // multierr is zap's
	}
)

// checker is what judges histories: it shares no code with what it judges, and links
// these modules alone.
const checker = "recovery/crashtest/history"

var checkerModules = []string{"github.com/anishathalye/porcupine"}

// The machine has no clock, no network, no disk and no concurrency.
var notInProtocol = regexp.MustCompile(`^(context|math/rand|net|os|sync|time)(/|$)`)

// Made for tests, so in no package that a program links.
var testModules = []string{"github.com/stretchr/testify", "go.uber.org/goleak", "pgregory.net/rapid", "github.com/rogpeppe/go-internal", "github.com/santhosh-tekuri/jsonschema", "google.golang.org/grpc"}

// Made for programs, so in no package that an embedder imports.
var programModules = []string{"github.com/go-analyze/charts", "github.com/spf13/cobra", "github.com/spf13/pflag", "go.yaml.in/yaml"}

var topLevel = []string{
	"coordinator", "wal", "recovery", "participant", "cmd", "testdata",
	"go.mod", "go.sum", "ARCHITECTURE.md", "README.md", "Makefile", "LICENSE",
}

// withoutGoleak lists the packages whose tests do not look for leaked goroutines, and why.
var withoutGoleak = map[string]string{}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Module     *struct{ Path string }
}

// goList returns every package of ours and what they reach outside of tests. A
// package that does not compile is listed as far as it goes: the compiler reports it.
func goList(t *testing.T) map[string]listed {
	t.Helper()
	output := command(t, "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports,Module", "./...")
	packages := map[string]listed{}
	for d := json.NewDecoder(bytes.NewReader(output)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages[p.ImportPath] = p
	}
}

func command(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = root
	var stderr bytes.Buffer
	c.Stderr = &stderr
	output, err := c.Output()
	require.NoError(t, err, "%s %s: %s", name, strings.Join(args, " "), &stderr)
	return output
}

// files returns the tracked files, and those that a commit would add.
func files(t *testing.T) []string {
	t.Helper()
	var present []string
	for name := range strings.Lines(string(command(t, "git", "ls-files", "-co", "--exclude-standard"))) {
		name = strings.TrimSpace(name)
		if info, err := os.Stat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
			present = append(present, name)
		}
	}
	require.NotEmpty(t, present)
	return present
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return text
}

func TestImportTable(t *testing.T) {
	packages := goList(t)
	seen := 0
	for _, p := range packages {
		name, ours := strings.CutPrefix(p.ImportPath, module+"/")
		if !ours {
			continue
		}
		seen++
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module+"/")
			switch {
			case ours && other == "participant/participanttest/capability":
				t.Errorf("%s imports %s, which only tests may", name, other)
			case ours && !allowed(name, other):
				t.Errorf("%s imports %s: the import table does not allow it", name, other)
			case name == "coordinator/protocol" && notInProtocol.MatchString(imported):
				t.Errorf("%s imports %s: the machine is pure and deterministic", name, imported)
			case !ours && slices.ContainsFunc(testModules, func(m string) bool { return strings.HasPrefix(imported, m) }):
				t.Errorf("%s imports %s, which is for tests", name, imported)
			case !ours && !strings.HasPrefix(name, "cmd/") && slices.ContainsFunc(programModules, func(m string) bool { return strings.HasPrefix(imported, m) }):
				t.Errorf("%s imports %s, which is for programs", name, imported)
			}
		}
	}
	require.NotZero(t, seen)
}

func allowed(importer, imported string) bool {
	list, ok := mayImport[importer]
	if !ok && slices.ContainsFunc(mayImportEverything, func(p string) bool { return strings.HasPrefix(importer, p) }) {
		return true
	}
	if !ok && path.Dir(importer) == "participant" {
		list, ok = mayImport["participant/*"], true
	}
	if !ok && strings.HasPrefix(importer, "coordinator/api/") {
		list = mayImport["coordinator/api"]
	}
	return slices.Contains(list, imported) || strings.HasPrefix(imported, "coordinator/api/") && slices.Contains(list, "coordinator/api")
}

func TestCoreDependsOnFourModules(t *testing.T) {
	dependOn(t, coreModules, core...)
}

func TestCheckerDependsOnOneModule(t *testing.T) {
	dependOn(t, checkerModules, checker)
}

// dependOn looks at whatever the packages reach, directly or not.
func dependOn(t *testing.T, modules []string, names ...string) {
	t.Helper()
	packages := goList(t)
	for _, name := range names {
		require.Contains(t, packages, module+"/"+name)
		// How the core package comes to it, for the message.
		via := map[string]string{module + "/" + name: name}
		for queue := []string{module + "/" + name}; len(queue) > 0; queue = queue[1:] {
			p := packages[queue[0]]
			outside := p.Module != nil && p.Module.Path != module
			if outside && !slices.Contains(modules, p.Module.Path) {
				t.Errorf("%s depends on %s", name, via[p.ImportPath])
				continue
			}
			for _, imported := range p.Imports {
				if _, known := via[imported]; !known && !packages[imported].Standard {
					via[imported] = via[p.ImportPath] + " -> " + imported
					queue = append(queue, imported)
				}
			}
		}
	}
}

func TestTopLevel(t *testing.T) {
	for _, name := range files(t) {
		first, _, _ := strings.Cut(name, "/")
		if !slices.Contains(topLevel, first) && !strings.HasPrefix(first, ".") {
			t.Errorf("%s: the top level holds %v and dotfiles only", name, topLevel)
		}
	}
}

// Every rule is named by a test that covers it.
func TestEveryRuleIsTested(t *testing.T) {
	rule := regexp.MustCompile(`\bR([1-9]|1[0-3])\b`)
	named := map[string]bool{}
	for _, name := range files(t) {
		if strings.HasSuffix(name, "_test.go") && name != "cmd/assent/house_test.go" {
			for _, match := range rule.FindAll(read(t, name), -1) {
				named[string(match)] = true
			}
		}
	}
	for _, r := range []string{"R1", "R2", "R3", "R4", "R5", "R6", "R7", "R8", "R9", "R10", "R11", "R12", "R13"} {
		if !named[r] {
			t.Errorf("no test names %s", r)
		}
	}
}

// The brackets keep the patterns from matching this file.
var (
	unfinished = regexp.MustCompile(`\b([T]ODO|[F]IXME|[X]XX|not [i]mplemented|[u]nimplemented)\b|[@]@`)
	machine    = regexp.MustCompile(`/[w]ork/|/[f]arm/|/[r]oot/|/[h]ome/|/[t]mp/|[p]roxy\.golang\.org|[d]eb\.debian\.org|[r]egistry\.npmjs`)
)

func TestNothingUnfinishedAndNoMachinePaths(t *testing.T) {
	for _, name := range files(t) {
		text := read(t, name)
		// Checksums may spell anything, and so may binary test data and generated code.
		if path.Ext(name) == ".sum" || bytes.IndexByte(text, 0) >= 0 || strings.HasPrefix(name, "coordinator/api/") {
			continue
		}
		number := 0
		for line := range bytes.Lines(text) {
			number++
			if found := unfinished.Find(line); found != nil {
				t.Errorf("%s:%d: %q", name, number, found)
			}
			if found := machine.Find(line); found != nil {
				t.Errorf("%s:%d: %q is a place on one machine", name, number, found)
			}
		}
	}
}

func TestEveryPackageLooksForLeakedGoroutines(t *testing.T) {
	checks := map[string]bool{}
	for _, name := range files(t) {
		dir := path.Dir(name)
		if strings.HasSuffix(name, "_test.go") && !strings.HasPrefix(dir, ".") && !strings.Contains(dir, "testdata") {
			checks[dir] = checks[dir] || bytes.Contains(read(t, name), []byte("goleak.VerifyTestMain("))
		}
	}
	require.NotEmpty(t, checks)
	for dir, does := range checks {
		if reason := withoutGoleak[dir]; !does && reason == "" {
			t.Errorf("%s: TestMain does not call goleak.VerifyTestMain, and withoutGoleak gives no reason", dir)
		}
	}
}

// What `make deps` installs is what tests need: a capability that Debian can give
// and a test asks for has its line in .ci/deps.
func TestDepsKnowsWhatTestsNeed(t *testing.T) {
	notInstallable := []capability.Capability{capability.Root, capability.Loop, capability.Mount, capability.Netns}
	asked := regexp.MustCompile(`capability\.([A-Z]\w+)`)
	deps := string(read(t, ".ci/deps"))
	for _, name := range files(t) {
		if !strings.HasSuffix(name, "_test.go") || name == "cmd/assent/house_test.go" {
			continue
		}
		for _, match := range asked.FindAllSubmatch(read(t, name), -1) {
			c := capability.Capability(strings.ToLower(string(match[1])))
			if slices.Contains(capability.All(), c) && !slices.Contains(notInstallable, c) && !strings.Contains(deps, "\n"+string(c)+" ") {
				t.Errorf("%s needs %s: .ci/deps has no line for it", name, c)
			}
		}
	}
}
