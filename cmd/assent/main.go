// Command assent is the distributed transaction manager as one program.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/bench"
	"github.com/assent-tm/assent/participant/participanttest/servers/natsserver"
)

func main() {
	natsserver.Main()
	bench.Main()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal()
	defer stop()
	command := rootCommand()
	started := false
	command.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	command.SetArgs(args)
	command.SetOut(stdout)
	command.SetErr(stderr)
	executed, err := command.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var status statusError
	if errors.As(err, &status) {
		return int(status)
	}
	code := exitUsage
	if started {
		code = exitCode(ctx, err)
	}
	printError(stderr, askedFormat(args), executed, code, err)
	return code
}

// untilSignal returns a context that ends by an interrupt or SIGTERM. A second one ends
// the program at once, wherever it is: whatever was promised is in a log.
func untilSignal() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for count := 1; ; count++ {
			select {
			case <-signals:
				if count == 2 {
					os.Exit(exitInterrupted)
				}
				cancel()
			case <-done:
				return
			}
		}
	})
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		waiting.Wait()
		cancel()
	}
}

func rootCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "assent",
		Short: "a durable two-phase-commit coordinator",
		Long: `Assent is a durable two-phase-commit coordinator: several services commit
together or roll back together, whatever crashes.

` + exitCodes,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
		// Errors are printed by run, with their exit code.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	command.AddCommand(benchCommand(), checkCommand(), configCommand(), demoCommand(), devCommand(), logCommand(), orphansCommand(),
		participantCommand(),
		serveCommand(), statusCommand(), tokenCommand(), txCommand(), versionCommand())
	return command
}
