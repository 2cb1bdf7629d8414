package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func txGetCommand() *cobra.Command {
	var sql bool
	command := &cobra.Command{
		Use:   "get TRANSACTION",
		Short: "show a transaction and its branches",
		Long: `Show a transaction and its branches: votes, decision, outcomes, whom it waits for and
why.

With --sql, print instead what finishes its prepared branches by hand, to be pasted into
each service's own client: COMMIT PREPARED or XA COMMIT lines, by the decision that is
in the log. Without a decision nothing is printed but comments. Then say what you did
with 'assent tx resolve'.`,
		Example: `  assent tx get $ID
  assent tx get $ID -o json | jq '.branches[] | select(.outcome == "")'
  assent tx get $ID --sql`,
		Args: takes("TRANSACTION"),
	}
	command.Flags().BoolVar(&sql, "sql", false, "print what finishes its prepared branches by hand")
	asks(command, func(a asked) error {
		id, err := a.transaction()
		if err != nil {
			return err
		}
		got, err := remotetx.Ask(a.command.Context(), a.Server, a.Transactions.Get, &assentv1.GetRequest{TransactionId: id, Statements: sql})
		if err != nil {
			return err
		}
		return a.answer(output.Of(got.GetTransaction()), func() error {
			if sql {
				return remotetx.WriteStatements(a.command.OutOrStdout(), got.GetTransaction())
			}
			return remotetx.WriteTransaction(a.command.OutOrStdout(), got.GetTransaction(), time.Now())
		})
	})
	return command
}

func txListCommand() *cobra.Command {
	var request assentv1.ListRequest
	var quiet bool
	command := &cobra.Command{
		Use:   "list",
		Short: "list transactions",
		Long: `List transactions in the order in which they were begun: those that have not ended, or
with --in-doubt those that are decided, or left by a crash, and not acknowledged by all.`,
		Example: `  assent tx list --in-doubt
  assent tx list --done --participant bank_a -o json
  for id in $(assent tx list --in-doubt -q); do assent tx get $id; done`,
		Args: takesNone,
	}
	f := command.Flags()
	f.BoolVar(&request.Done, "done", false, "also those that have ended, as long as their outcome is kept")
	f.BoolVar(&request.InDoubt, "in-doubt", false, "only those whose participants are still to be told")
	f.StringVar(&request.Participant, "participant", "", "only those with a branch of this participant")
	f.StringVar(&request.Owner, "owner", "", "only those of this owner")
	f.Uint32Var(&request.Limit, "limit", 1000, "at most so many")
	f.BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	asks(command, func(a asked) error {
		if quiet && a.format != output.Table {
			return usageError{errors.New("--quiet and --output: give either")}
		}
		listed, err := remotetx.Ask(a.command.Context(), a.Server, a.Transactions.List, &request)
		if err != nil {
			return err
		}
		return a.answer(output.List(listed.GetTransactions()), func() error {
			if !quiet {
				return remotetx.WriteList(a.command.OutOrStdout(), listed.GetTransactions(), time.Now())
			}
			for _, t := range listed.GetTransactions() {
				if err := a.say("%s", t.GetTransactionId()); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return command
}

func txWatchCommand() *cobra.Command {
	var after string
	command := &cobra.Command{
		Use:   "watch [TRANSACTION]",
		Short: "show what happens to transactions, as it happens",
		Long: `Show what happens to transactions, as it happens: an event a line, as JSON an object a
line. Ends by an interrupt or, if one transaction is watched, when that has ended.`,
		Example: `  assent tx watch
  assent tx watch $ID
  assent tx watch -o json | jq 'select(.kind == "decided")'`,
		Args: cobra.MaximumNArgs(1),
	}
	command.Flags().StringVar(&after, "after", "", "also what came after the event with this `id`, as far as the server remembers")
	asks(command, func(a asked) (err error) {
		request := &assentv1.WatchRequest{After: after}
		if len(a.args) == 1 {
			if request.TransactionId, err = a.transaction(); err != nil {
				return err
			}
		}
		return a.Watch(a.command.Context(), request, func(e *assentv1.Event) error {
			if a.format == output.Table {
				return a.say("%s", remotetx.EventLine(e))
			}
			return output.WriteEach(a.command.OutOrStdout(), a.format, output.Of(e))
		})
	})
	return command
}
