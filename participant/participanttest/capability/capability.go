// Package capability names what a test needs of the machine and may lack: a
// database server, root, a tracer. A test asks with [Need]; without the
// capability it is skipped, and `make test` counts it as not run.
//
// It lies here, below the lowest package, because tests of every package import
// it; it imports nothing of ours itself, and only tests import it.
package capability

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// Capability is the name of something a test needs of the machine.
type Capability string

// The capabilities there are. A new one also needs an entry in probes.
const (
	Root     Capability = "root"     // runs as the superuser
	Gcc      Capability = "gcc"      // a C compiler with the C library's headers, for cgo and -race
	Postgres Capability = "postgres" // PostgreSQL's server programs
	MariaDB  Capability = "mariadb"  // MariaDB's server programs
	Redis    Capability = "redis"    // redis-server
	Fuse     Capability = "fuse"     // mounting a file system of one's own
	Loop     Capability = "loop"     // loop devices, as root
	Mount    Capability = "mount"    // mounting file systems, as root
	Netns    Capability = "netns"    // network namespaces, as root
	Strace   Capability = "strace"   // strace, and the right to trace
	Spin     Capability = "spin"     // the model checker spin
	Python   Capability = "python"   // python3
	Node     Capability = "node"     // Node.js
	Curl     Capability = "curl"     // curl
	GRPCIO   Capability = "grpcio"   // gRPC and protocol buffers for Debian's Python
)

// requireEnv is the environment variable that turns the skips of Need into
// failures: "all", or names separated by commas or spaces.
const requireEnv = "ASSENT_REQUIRE"

// servers are left out of a -short run, which `make quick` promises to do without.
var servers = []Capability{Postgres, MariaDB, Redis}

// TB is the part of testing.TB that Need uses.
type TB interface {
	Helper()
	Skip(args ...any)
	Fatal(args ...any)
}

// All returns every capability there is, ordered by name.
func All() []Capability {
	var all []Capability
	for c := range probes {
		all = append(all, c)
	}
	slices.Sort(all)
	return all
}

// Need ends the test unless the machine has all the capabilities: it fails the
// test when ASSENT_REQUIRE is "all" or lists a missing one, and skips it
// otherwise. Servers are also skipped in a -short run, whatever is required.
// The reasons are lines that [SkipReason] reads back.
func Need(t TB, needed ...Capability) {
	t.Helper()
	need(t, missing, os.Getenv(requireEnv), testing.Short(), needed)
}

// Required reports whether the value of ASSENT_REQUIRE makes the lack of c a
// failure. A name in it that is no capability is an error: a misspelt demand
// would be no demand.
func Required(value string, c Capability) (bool, error) {
	required := false
	for _, name := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' }) {
		_, known := probes[Capability(name)]
		if !known && name != "all" {
			return false, fmt.Errorf("%s names %q, which is no capability: want all or some of %v", requireEnv, name, All())
		}
		required = required || name == "all" || name == string(c)
	}
	return required, nil
}

// Missing returns nil when the machine has c, or else an error that says what
// was looked for.
func Missing(c Capability) error {
	return missing(c)
}

func need(t TB, missing func(Capability) error, require string, short bool, needed []Capability) {
	t.Helper()
	var reasons []string
	for _, c := range needed {
		if short && slices.Contains(servers, c) {
			t.Skip(leftOut + string(c))
			return
		}
		err := missing(c)
		if err == nil {
			continue
		}
		reason := fmt.Sprintf("%s%s: %v", lacking, c, err)
		required, badRequire := Required(require, c)
		if badRequire != nil {
			t.Fatal(badRequire)
			return
		}
		if required {
			t.Fatal(reason + " (ASSENT_REQUIRE demands it; `make deps` installs what Debian has)")
			return
		}
		reasons = append(reasons, reason)
	}
	if len(reasons) > 0 {
		t.Skip(strings.Join(reasons, "\n"))
	}
}

// How the reasons of a skip begin, up to the name of the capability.
const (
	lacking = "missing capability "
	leftOut = "left out of a short run: needs "
)

// SkipReason reads one line of a test's output. It returns the capability for
// which Need skipped the test, and whether the machine lacks it (true) or a
// -short run left it out (false); the empty Capability when the line is another.
func SkipReason(line string) (c Capability, lacks bool) {
	if _, rest, ok := strings.Cut(line, lacking); ok {
		name, _, _ := strings.Cut(rest, ":")
		return known(name), true
	}
	if _, rest, ok := strings.Cut(line, leftOut); ok {
		return known(strings.TrimSpace(rest)), false
	}
	return "", false
}

func known(name string) Capability {
	if _, ok := probes[Capability(name)]; ok {
		return Capability(name)
	}
	return ""
}
