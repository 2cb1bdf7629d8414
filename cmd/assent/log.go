package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/logfile"
	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

func logCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "log",
		Short: "look into a coordinator's log, back it up, restore it",
		Long: `Look into a coordinator's log, back it up, and restore it.

verify, dump, stat and snapshot only read, and take no lock: a coordinator that
uses the log notices nothing. If it writes while they read, they say so and fail.
compact, restore and accept need the log for themselves.

A log that is older than what its participants were told splits transactions: where
it has no decision, they are rolled back, though others may have committed. So
what is restored is in quarantine, and its coordinator in safe mode: it delivers
the decisions it has, begins nothing, and rolls nothing back for want of a decision.
Compare its transactions with what the participants hold, settle the difference
there, and then end it with 'assent log accept'.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(logVerifyCommand(), logDumpCommand(), logStatCommand(),
		logSnapshotCommand(), logRestoreCommand(), logAcceptCommand(), logCompactCommand())
	return command
}

// runs adds the flag -o and has the command run do, as JSON if that is asked for.
func runs(command *cobra.Command, do func(command *cobra.Command, args []string, asJSON bool) error) {
	format := command.Flags().StringP("output", "o", "table", "table or json")
	command.RunE = func(command *cobra.Command, args []string) error {
		f, err := output.ParseFormat(*format, output.Table, output.JSON)
		if err != nil {
			return usageError{err}
		}
		return do(command, args, f == output.JSON)
	}
}

func logVerifyCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "verify FILE",
		Short: "check a whole log or snapshot",
		Long: `Check a whole log or snapshot: every page in use, every checksum, every record, and
that records, terms and marks go together. Exit code 9 if anything is wrong. Changes
nothing and takes no lock.`,
		Example: `  assent log verify assent.db
  assent log verify backup/monday.db -o json`,
		Args: takes("FILE"),
	}
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		report, err := logfile.Examine(command.Context(), args[0])
		if err != nil {
			if asJSON {
				err = errors.Join(err, logfile.WriteFault(command.OutOrStdout(), args[0], err))
			}
			return err
		}
		return report.WriteVerified(command.OutOrStdout(), asJSON)
	})
	return command
}

func logDumpCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "dump FILE",
		Short: "print every record of a log or snapshot",
		Long: `Print every record of a log or snapshot, in the order in which they were written.
As JSON, one object a line. Changes nothing and takes no lock.`,
		Example: `  assent log dump assent.db
  assent log dump assent.db --tx 1z141z4-0192d0f1c2a37c55a1b2c3d4e5f60718
  assent log dump assent.db -o json | jq 'select(.kind == "decided")'`,
		Args: takes("FILE"),
	}
	tx := command.Flags().String("tx", "", "only the records of this `transaction`")
	full := command.Flags().Bool("full", false, "all bytes of participants' data, also in the table")
	runs(command, func(command *cobra.Command, args []string, asJSON bool) (err error) {
		options := logfile.DumpOptions{Full: *full, JSON: asJSON}
		if *tx != "" {
			if options.Tx, err = participant.ParseTxID(*tx); err != nil {
				return usageError{fmt.Errorf("--tx: %w", err)}
			}
		}
		return logfile.Dump(command.Context(), args[0], command.OutOrStdout(), options)
	})
	return command
}

func logStatCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "stat FILE",
		Short: "tell what a log or snapshot holds",
		Long: `Tell what a log or snapshot holds: its size, its terms, how many transactions are
in doubt, and whether it is in quarantine. Checks all of it, as verify does. Changes
nothing and takes no lock.`,
		Example: `  assent log stat assent.db
  assent log stat assent.db -o json | jq .in_doubt`,
		Args: takes("FILE"),
	}
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		report, err := logfile.Examine(command.Context(), args[0])
		if err != nil {
			return err
		}
		return report.WriteStat(command.OutOrStdout(), asJSON, time.Now())
	})
	return command
}

func logSnapshotCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "snapshot FILE DEST",
		Short: "copy a log that is not being written",
		Long: `Copy a log to a new file DEST, whole, checked and on disk, or not at all. Nothing is
overwritten. The log is only read: no lock is taken.

If the log is written meanwhile the command fails: stop the coordinator, or have its
program make the snapshot (Store.Snapshot of package wal/bolt), which copies a log
in use.

A snapshot is not opened as a log; 'assent log restore' puts it in place.`,
		Example: `  assent log snapshot assent.db backup/monday.db`,
		Args:    takes("FILE", "DEST"),
	}
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		if _, err := os.Lstat(args[1]); err == nil {
			return usageError{fmt.Errorf("%s: %w; nothing is overwritten, give another name", args[1], fs.ErrExist)}
		}
		// Also what the records say: a backup of a damaged log is none.
		if _, err := logfile.Examine(command.Context(), args[0]); err != nil {
			return err
		}
		r, err := bolt.OpenReader(args[0])
		if err != nil {
			return err
		}
		if err := errors.Join(r.Snapshot(args[1]), r.Close()); err != nil {
			return err
		}
		report, err := logfile.Examine(command.Context(), args[1])
		if err != nil {
			return err
		}
		return report.WriteVerified(command.OutOrStdout(), asJSON)
	})
	return command
}

func logRestoreCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "restore SNAPSHOT DEST",
		Short: "put a snapshot in place as a log, in quarantine",
		Long: `Put a snapshot, or another log that is not in use, in place as the log DEST. The
snapshot is checked first and stays as it is. A log that is there is kept, and nothing
happens, unless --force is given: then it stays beside the new one, under a name with
the date.

The log is in quarantine: its coordinator starts in safe mode, until
'assent log accept'. See 'assent log --help'.`,
		Example: `  assent log restore backup/monday.db assent.db --reason "disk failed"
  assent log restore backup/monday.db assent.db --force --reason "restored by mistake before"`,
		Args: takes("SNAPSHOT", "DEST"),
	}
	force := command.Flags().Bool("force", false, "let a log that is there make room; it is renamed, not removed")
	reason := command.Flags().String("reason", "restored from a snapshot", "why, for those who find the log in quarantine")
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		if err := usefulReason(*reason); err != nil {
			return err
		}
		restored, err := bolt.Restore(command.Context(), args[0], args[1], bolt.RestoreOptions{Reason: *reason, Replace: *force, Owner: owner()})
		if err != nil {
			return err
		}
		return logfile.WriteRestored(command.OutOrStdout(), restored, asJSON)
	})
	return command
}

func logAcceptCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "accept FILE --reason TEXT",
		Short: "end a log's quarantine and safe mode",
		Long: `Record that a log is to be used as it is, though it was restored, or though its
participants know more than it does. This ends its quarantine and the safe mode of
its coordinator, from the coordinator's next start on. It can't be taken back.

Before: compare. List what is in doubt (assent log stat, DTM.List, DTM.Orphans), and
look up at every participant what it holds prepared and what it committed since the
snapshot was made. Settle the difference at the participants.

After: where the log has no decision for a prepared branch of one of its terms, the
branch is rolled back, also if the same transaction was committed elsewhere after
the snapshot was made; whoever asks for a transaction that the log holds undecided is
told that it was rolled back. Branches of terms that the log never listed, begun after a
start that it missed, are reported as foreign and stay: settle them by hand.`,
		Example: `  assent log accept assent.db --reason "compared with both banks, T-4711"`,
		Args:    takes("FILE"),
	}
	reason := command.Flags().String("reason", "", "why, for those who ask later (required)")
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		if err := usefulReason(*reason); err != nil {
			return err
		}
		accepted, err := logfile.Accept(command.Context(), args[0], owner(), *reason)
		if err != nil {
			return err
		}
		return accepted.Write(command.OutOrStdout(), asJSON)
	})
	return command
}

func logCompactCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "compact FILE",
		Short: "rewrite a log that is not in use without its free pages",
		Long: `Rewrite a log that is not in use into a new file without free pages, which then takes
its place, whole and on disk. A log that grew never shrinks by itself while it is used.
Nothing that it holds is dropped.`,
		Example: `  assent log compact assent.db`,
		Args:    takes("FILE"),
	}
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		before, after, err := bolt.Compact(args[0])
		if err != nil {
			return err
		}
		return logfile.WriteCompacted(command.OutOrStdout(), args[0], before, after, asJSON)
	})
	return command
}

// usefulReason refuses a reason that the log would: before anything is begun.
func usefulReason(reason string) error {
	if reason == "" {
		return usageError{errors.New("--reason is missing: say why, it is kept in the log")}
	}
	if len(reason) > record.MaxReason {
		return usageError{fmt.Errorf("--reason has %d bytes, %d are allowed", len(reason), record.MaxReason)}
	}
	return nil
}

// owner names this program in the log's terms.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("assent log, %.100s:%d", host, os.Getpid())
}
