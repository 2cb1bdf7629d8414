package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func orphansCommand() *cobra.Command {
	var sql bool
	command := &cobra.Command{
		Use:   "orphans",
		Short: "list prepared branches that no live transaction has",
		Long: `List the prepared branches that no live transaction has, with what the server's sweep
does about each, and why. It leaves alone what is of another domain or another log, and
what it can't know: those are for you to settle, with --sql by statements for each
service's own client, once you know what became of the transaction elsewhere.

Exit code 1: some participant could not be listed. The others' are printed all the same.` + remoteHelp,
		Example: `  assent orphans
  assent orphans --sql
  assent orphans -o json | jq '.[] | select(.action == "foreign term")'`,
		Args: takesNone,
	}
	command.Flags().BoolVar(&sql, "sql", false, "print what finishes them by hand")
	asks(command, func(a asked) error {
		answer, err := remotetx.Ask(a.command.Context(), a.Server, a.Admin.Orphans, &assentv1.OrphansRequest{})
		if err != nil {
			return err
		}
		err = a.answer(output.List(answer.GetOrphans()), func() error {
			if sql {
				return remotetx.WriteOrphanStatements(a.command.OutOrStdout(), answer.GetOrphans())
			}
			return remotetx.WriteOrphans(a.command.OutOrStdout(), answer.GetOrphans())
		})
		for _, failure := range answer.GetFailures() {
			err = errors.Join(err, fmt.Errorf("not listed: %s", output.Clean(failure)))
		}
		return err
	})
	return command
}
