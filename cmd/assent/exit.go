package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	"github.com/assent-tm/assent/wal"
)

// Exit codes, as `assent --help` lists them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitAuth        = 4
	exitNotFound    = 5
	exitConflict    = 6
	exitRolledBack  = 7
	exitPending     = 8
	exitDamaged     = 9
	exitInterrupted = 130
)

const exitCodes = `Exit codes:
  0    done
  1    failed, for another reason than these: the demo's proof, for example
  2    wrong usage, configuration or input: nothing was begun
  3    no server there, no answer in time, or one that drains or has failed
  4    the server does not know who asks, or its role does not allow it
  5    no such transaction or participant, or another's
  6    conflict with an earlier call, a precondition, or a limit
  7    the transaction was rolled back: the work may be done anew
  8    committed and still to be told, or the outcome is unknown: never do the work again
  9    a log is damaged, or none that this version reads
  130  interrupted
  ('assent check' has those of monitoring plugins: 0 ok, 1 warning, 2 critical, 3 unknown.)`

// errorCodes name exit codes in errors that are printed as JSON.
var errorCodes = map[int]string{
	exitFailed: "failed", exitUsage: "usage", exitUnreachable: "unreachable", exitAuth: "auth", exitNotFound: "not_found",
	exitConflict: "conflict", exitRolledBack: "rolled_back", exitPending: "pending", exitDamaged: "damaged", exitInterrupted: "interrupted",
}

var exitOfKind = map[remotetx.Kind]int{
	remotetx.Other: exitFailed, remotetx.Invalid: exitUsage, remotetx.Unreachable: exitUnreachable, remotetx.Auth: exitAuth,
	remotetx.NotFound: exitNotFound, remotetx.Conflict: exitConflict, remotetx.RolledBack: exitRolledBack, remotetx.Pending: exitPending,
}

// usageError says that a command was asked for something it can't do: nothing was
// begun.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// notFoundError says that what was named does not exist.
type notFoundError struct{ error }

func (e notFoundError) Unwrap() error { return e.error }

// statusError ends the program with this exit code. What there is to be said was
// printed.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// exitCode is what an error of a command that was started means.
func exitCode(ctx context.Context, err error) int {
	var usage usageError
	var missing notFoundError
	var bad remotetx.BadOption
	var remote *remotetx.Error
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &usage), errors.As(err, &bad):
		return exitUsage
	case errors.As(err, &missing):
		return exitNotFound
	case errors.As(err, &remote):
		return cmp.Or(exitOfKind[remote.Kind], exitFailed)
	case errors.Is(err, wal.ErrDamaged), errors.Is(err, wal.ErrNewer), errors.Is(err, wal.ErrForeign):
		return exitDamaged
	default:
		return exitFailed
	}
}

// printError prints an error: in the format that was asked for.
func printError(w io.Writer, format output.Format, executed *cobra.Command, code int, err error) {
	message := err.Error()
	if code == exitInterrupted {
		message = "interrupted"
	}
	if format == output.Table {
		fmt.Fprintln(w, "assent:", message)
		// What is wrong with a file, or with what a server was asked, no help explains.
		var problems config.Problems
		var remote *remotetx.Error
		if code == exitUsage && !errors.As(err, &remote) && !errors.As(err, &problems) {
			fmt.Fprintf(w, "See '%s --help'.\n", executed.CommandPath())
		}
		return
	}
	fields := output.Fields{{Name: "code", Value: errorCodes[code]}, {Name: "message", Value: message}, {Name: "exit_code", Value: code}}
	var remote *remotetx.Error
	if errors.As(err, &remote) && remote.Info != nil {
		fields.Add("details", output.Of(remote.Info))
	}
	if err := output.Write(w, format, fields); err != nil {
		fmt.Fprintln(w, "assent:", message)
	}
}

// askedFormat is the format for errors. It reads the arguments themselves: what is
// wrong with them is said in it, too.
func askedFormat(args []string) output.Format {
	for i, arg := range args {
		value, ok := strings.CutPrefix(arg, "--output=")
		if !ok {
			value, ok = strings.CutPrefix(arg, "-o")
			value = strings.TrimPrefix(value, "=")
		}
		if (arg == "-o" || arg == "--output") && i+1 < len(args) {
			value, ok = args[i+1], true
		}
		if format, err := output.ParseFormat(value, output.JSON, output.YAML); ok && err == nil {
			return format
		}
	}
	return output.Table
}
