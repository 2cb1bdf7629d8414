// Command assent is the distributed transaction manager as one program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/participant/participanttest/servers/natsserver"
)

// Exit codes, as `assent --help` lists them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	natsserver.Main()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends in order, the second at once.
	defer context.AfterFunc(ctx, stop)()

	command := rootCommand()
	started := false
	command.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	command.SetArgs(args)
	command.SetOut(stdout)
	command.SetErr(stderr)
	executed, err := command.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case started && ctx.Err() != nil:
		fmt.Fprintln(stderr, "assent: interrupted")
		return exitInterrupted
	case !started || errors.As(err, &usage):
		fmt.Fprintf(stderr, "assent: %v\nSee '%s --help'.\n", err, executed.CommandPath())
		return exitUsage
	default:
		fmt.Fprintln(stderr, "assent:", err)
		return exitFailed
	}
}

// usageError says that a command was asked for something it can't do: nothing was
// begun.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func rootCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "assent",
		Short: "a durable two-phase-commit coordinator",
		Long: `Assent is a durable two-phase-commit coordinator: several services commit
together or roll back together, whatever crashes.

Exit codes:
  0    done
  1    failed: the demo's proof, or a log is damaged, for example
  2    wrong usage or bad input: nothing was begun
  130  interrupted`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
		// Errors are printed by run, with their exit code.
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	command.AddCommand(benchCommand(), demoCommand(), logCommand(), versionCommand())
	return command
}
