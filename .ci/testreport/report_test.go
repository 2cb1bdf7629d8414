package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is a small module whose tests end in every way a test can.
var module = map[string]string{
	"go.mod": "module example.test/m\n\ngo 1.26\n",
	"good/good_test.go": `package good
import "testing"
func TestPass(t *testing.T) { t.Log("not to be seen") }
func TestSubs(t *testing.T) {
	t.Run("one", func(t *testing.T) {})
	t.Run("two", func(t *testing.T) { t.Skip("missing capability redis: no program redis-server") })
}
func TestNeedsTwo(t *testing.T) { t.Skip("missing capability redis: no program\nmissing capability root: not running as root") }
func TestWhim(t *testing.T) { t.Skip("not today") }
func TestShort(t *testing.T) { if testing.Short() { t.Skip("left out of a short run: needs mariadb") } }
`,
	"bad/bad_test.go": `package bad
import "testing"
func TestSubs(t *testing.T) {
	t.Run("one", func(t *testing.T) { t.Fatal("the reason of one") })
	t.Run("two", func(t *testing.T) {})
}
func TestAfterSubs(t *testing.T) {
	t.Run("fine", func(t *testing.T) {})
	t.Error("the reason afterwards")
}
`,
	"panics/panics_test.go": `package panics
import "testing"
func TestPanic(t *testing.T) { panic("the reason of the panic") }
`,
	"exits/exits_test.go": `package exits
import ("fmt"; "os"; "testing")
func TestFine(t *testing.T) {}
func TestMain(m *testing.M) { m.Run(); fmt.Println("a goroutine leaked"); os.Exit(1) }
`,
	"counts/counts_test.go": `package counts
import ("fmt"; "os"; "testing")
func TestFine(t *testing.T) {}
func TestMain(m *testing.M) { code := m.Run(); fmt.Println("not to be seen"); fmt.Println("figures: 3 of 4"); os.Exit(code) }
`,
	"broken/broken_test.go": `package broken
var x int = "the reason it does not build"
`,
}

func inModule(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range module {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	t.Chdir(dir)
	t.Setenv("GOFLAGS", "")
	t.Setenv("GOWORK", "off")
}

func TestReportOfAGoodRun(t *testing.T) {
	inModule(t)
	var out bytes.Buffer
	r := newReport(&out)
	require.NoError(t, goTest(t.Context(), []string{"-short", "./good"}, r))
	require.Equal(t, 2, r.close())
	first, rest, _ := strings.Cut(out.String(), "\n")
	require.Regexp(t, `^ok  \texample.test/m/good\t[0-9.]+s$`, first)
	require.Equal(t, `skipped: example.test/m/good TestWhim: good_test.go:9: not today
2 passed, 0 failed, 4 skipped
left out for mariadb: 1 case not run
missing capability redis: 2 cases not run
missing capability root: 1 case not run
`, rest)
}

func TestFiguresAreShown(t *testing.T) {
	inModule(t)
	var out bytes.Buffer
	r := newReport(&out)
	require.NoError(t, goTest(t.Context(), []string{"./counts"}, r))
	require.Regexp(t, `^figures: 3 of 4\nok  \texample.test/m/counts\t[0-9.]+s\n$`, out.String())
}

// A case is not run only when no run runs it.
func TestLaterRunRunsWhatAnEarlierOneSkipped(t *testing.T) {
	inModule(t)
	var out bytes.Buffer
	r := newReport(&out)
	require.NoError(t, goTest(t.Context(), []string{"-short", "./good"}, r))
	require.NoError(t, goTest(t.Context(), []string{"./good"}, r))
	require.Equal(t, 3, r.close())
	require.NotContains(t, out.String(), "mariadb")
}

func TestReportOfFailures(t *testing.T) {
	for _, test := range []struct {
		pkg    string
		shows  []string
		hides  string
		closes string
	}{
		{"bad", []string{
			"--- FAIL: TestSubs/one", "the reason of one",
			"--- FAIL: TestAfterSubs (", "the reason afterwards", "FAIL\texample.test/m/bad\t",
		}, "TestSubs/two", "2 passed, 2 failed, 0 skipped\n"},
		{"panics", []string{"panic: the reason of the panic", "FAIL\texample.test/m/panics\t"}, "=== RUN", "0 passed, 1 failed, 0 skipped\n"},
		{"exits", []string{"a goroutine leaked", "FAIL\texample.test/m/exits\t"}, "=== RUN", "1 passed, 1 failed, 0 skipped\n"},
		{"broken", []string{"the reason it does not build", "FAIL\texample.test/m/broken [build failed]"}, "{", "0 passed, 1 failed, 0 skipped\n"},
	} {
		t.Run(test.pkg, func(t *testing.T) {
			inModule(t)
			var out bytes.Buffer
			r := newReport(&out)
			require.Error(t, goTest(t.Context(), []string{"./" + test.pkg}, r))
			r.close()
			rest := out.String()
			for _, want := range test.shows {
				_, after, found := strings.Cut(rest, want)
				require.True(t, found, "%q is missing, or out of order, in:\n%s", want, out.String())
				rest = after
			}
			require.NotContains(t, out.String(), test.hides)
			require.True(t, strings.HasSuffix(out.String(), test.closes), out.String())
		})
	}
}

func TestMissingCompilerIsCounted(t *testing.T) {
	inModule(t)
	var out bytes.Buffer
	r := newReport(&out)
	r.withoutRace = true
	require.NoError(t, goTest(t.Context(), []string{"./good"}, r))
	r.close()
	require.Contains(t, out.String(), "missing capability gcc: 0 cases not run, 3 run without -race\n")
}

// Without a compiler -race gives way, unless gcc is required.
func TestRunWithoutCompiler(t *testing.T) {
	inModule(t)
	goOnly := t.TempDir()
	for _, name := range []string{"go", "git"} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(goOnly, name)))
	}
	t.Setenv("PATH", goOnly)
	require.NoError(t, run(t.Context(), io.Discard, []string{"-race ./good"}, ""))
	require.ErrorContains(t, run(t.Context(), io.Discard, []string{"-race ./good"}, "gcc"), "missing capability gcc")
	require.ErrorContains(t, run(t.Context(), io.Discard, []string{"./good"}, "gc"), `"gc", which is no capability`)
}

func TestRunGoesOnAfterAFailure(t *testing.T) {
	inModule(t)
	err := run(t.Context(), io.Discard, []string{"./bad", "./good", "./exits"}, "")
	require.ErrorContains(t, err, "go test ./bad: exit status 1")
	require.ErrorContains(t, err, "go test ./exits: exit status 1")
	require.NotContains(t, err.Error(), "good")
	require.ErrorContains(t, run(t.Context(), io.Discard, []string{"-run=Nothing ./good"}, ""), "no test ran")
}
