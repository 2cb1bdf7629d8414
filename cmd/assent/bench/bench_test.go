package bench

import (
	"context"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Main()
	goleak.VerifyTestMain(m)
}

// requireListed checks that an area measures what it lists, in this order: the
// table, --only and --help go by the list.
func requireListed(t *testing.T, area string, figures []Figure) {
	t.Helper()
	var names []string
	for _, f := range figures {
		names = append(names, f.Name)
		require.Positive(t, f.Value, f.Name)
		require.NotEmpty(t, f.What, f.Name)
	}
	for _, a := range areas {
		if a.name == area {
			require.Equal(t, a.figures, names)
			return
		}
	}
	t.Errorf("no area %s", area)
}

func TestAreas(t *testing.T) {
	seen := map[string]bool{}
	o := Options{Rounds: 7, Slice: time.Second}
	for _, a := range areas {
		require.Positive(t, a.about(o), a.name)
		for _, name := range a.figures {
			require.Regexp(t, regexp.MustCompile(`^[a-z]+\.[0-9a-z_]+(\.c[0-9]+)?$`), name)
			require.False(t, seen[name], "twice: %s", name)
			seen[name] = true
		}
	}
}

// The figures themselves depend on the machine; that they come, and with which
// aims, does not.
func TestRunMeasuresEveryFigure(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Only: []string{"disk.", "log.commit", "tx."}, Rounds: 1, Slice: 20 * time.Millisecond, idle: 1000}
	report, err := Run(t.Context(), o)
	require.NoError(t, err)
	aims := map[string]string{}
	by := map[string][]Figure{}
	for _, f := range report.Figures {
		by[areaOf(f.Name)] = append(by[areaOf(f.Name)], f)
		if f.Met != nil {
			aims[f.Name] = f.Bound + " " + number(f.Aim)
		}
	}
	for _, area := range []string{"disk", "tx", "idle"} {
		requireListed(t, area, by[area])
	}
	require.Equal(t, map[string]string{
		"tx.p50_commits.c1":     "<= 2.3",
		"tx.update_ratio.c64":   ">= 60",
		"tx.update_ratio.c1024": ">= 200",
		"tx.cpu_us.c1024":       "<= 15",
		"tx.alloc_bytes.c1024":  "<= 4096",
		"tx.allocs.c1024":       "<= 40",
		"tx.fdatasyncs.c1":      "= 4",
		"tx.fdatasyncs.c1024":   "<= 0.02",
		"tx.idle_bytes":         "<= 1024",
	}, aims)
	require.Equal(t, report.Machine, must(Describe(dir)))
	requireEmpty(t, dir)
}

func areaOf(figure string) string {
	for _, a := range areas {
		for _, name := range a.figures {
			if name == figure {
				return a.name
			}
		}
	}
	return ""
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestOnly(t *testing.T) {
	o := Options{Dir: t.TempDir(), Only: []string{"log.commit_", "disk"}, Rounds: 1, Slice: time.Millisecond}
	var told []string
	o.Progress = func(what string) { told = append(told, what) }
	report, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, report.Figures, 2)
	require.Equal(t, "disk.floor", report.Figures[0].Name)
	require.Equal(t, "log.commit_floors", report.Figures[1].Name)
	require.Len(t, told, 1)
	require.Regexp(t, `^disk: round 1 of 1 \(\d+s, about \d+s left\)$`, told[0])
}

func TestBadOptions(t *testing.T) {
	good := Options{Dir: t.TempDir(), Rounds: 1, Slice: time.Millisecond}
	for want, change := range map[string]func(*Options){
		`--only "pair.hand": what begins so is measured with --databases only`: func(o *Options) { o.Only = []string{"disk", "pair.hand"} },
		`--only "tx.p5O": no figure's name begins so; there are disk.floor, `:  func(o *Options) { o.Only = []string{"disk", "tx.p5O"} },
		"--rounds 0 and --slice 1ms must be positive":                          func(o *Options) { o.Rounds = 0 },
		"--rounds 1 and --slice 0s must be positive":                           func(o *Options) { o.Slice = 0 },
		"no such file or directory":                                            func(o *Options) { o.Dir += "/none" },
		"is not a directory":                                                   func(o *Options) { o.Dir = "bench_test.go" },
	} {
		o := good
		change(&o)
		_, err := Run(t.Context(), o)
		require.ErrorAs(t, err, new(BadOption))
		require.ErrorContains(t, err, want)
	}
	requireEmpty(t, good.Dir)
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	for _, only := range []string{"disk", "tx.p50", "tx.idle"} {
		ctx, cancel := context.WithCancel(t.Context())
		o := Options{Dir: t.TempDir(), Only: []string{only}, Rounds: 1, Slice: time.Hour}
		o.Progress = func(string) { cancel() }
		_, err := Run(ctx, o)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorAs(t, err, new(BadOption))
		requireEmpty(t, o.Dir)
	}
}
