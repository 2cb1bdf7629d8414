// Command testreport runs the tests and closes with what did not run.
//
//	go run ./.ci/testreport '-race ./wal/... ./coordinator' '-short ./recovery'
//
// Each argument holds the arguments of one `go test`. The output is what go test
// prints without -v: packages as they end, failures in full. It is followed by the
// number of cases, and by one line per missing capability with the number of cases
// that therefore did not run. All runs are made, also after a failure; the exit
// status is 1 when one of them failed or nothing ran at all.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, os.Args[1:], os.Getenv("ASSENT_REQUIRE")); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1) //nolint:gocritic // stop has nothing left to undo
	}
}

func run(ctx context.Context, out io.Writer, runs []string, require string) error {
	if len(runs) == 0 {
		return errors.New("usage: testreport 'go test arguments' […]")
	}
	noCompiler := capability.Missing(capability.Gcc)
	if noCompiler != nil {
		required, err := capability.Required(require, capability.Gcc)
		if err != nil {
			return err
		}
		if required {
			return fmt.Errorf("missing capability gcc, which -race needs: %w (`make deps` installs it)", noCompiler)
		}
	}
	r := newReport(out)
	var failed error
	for _, line := range runs {
		args := strings.Fields(line)
		r.withoutRace = noCompiler != nil && slices.Contains(args, "-race")
		if r.withoutRace {
			args = slices.DeleteFunc(args, func(a string) bool { return a == "-race" })
		}
		if err := goTest(ctx, args, r); err != nil {
			failed = errors.Join(failed, fmt.Errorf("go test %s: %w", shortened(args), err))
		}
	}
	if ran := r.close(); ran == 0 {
		failed = errors.Join(failed, errors.New("no test ran"))
	}
	return failed
}

// shortened leaves the flags and counts the packages, which may be many.
func shortened(args []string) string {
	packages := slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })
	if packages < 0 || len(args)-packages < 3 {
		return strings.Join(args, " ")
	}
	return fmt.Sprintf("%s (%d packages)", strings.Join(args[:packages], " "), len(args)-packages)
}

// goTest feeds the events of one `go test -json` to the report.
func goTest(ctx context.Context, args []string, r *report) error {
	command := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	// go test ends its children and tells what was running; being killed it could not.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	command.Stderr = os.Stderr
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	readErr := r.read(output)
	return errors.Join(command.Wait(), readErr)
}

// read takes the lines of go test -json up to the end. What is no event is
// printed as it is: go itself writes some messages between them.
func (r *report) read(output io.Reader) error {
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		switch {
		case len(line) == 0:
		case bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(line, &e) == nil:
			r.add(e)
		default:
			r.print(string(line))
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}
