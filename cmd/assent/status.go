package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func statusCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "status",
		Short: "show how a running server is",
		Long:  `Show how a running server is: its condition, what is in doubt, its participants, its log.` + remoteHelp,
		Example: `  assent status
  assent status -o json | jq .in_doubt`,
		Args: takesNone,
	}
	asks(command, func(a asked) error {
		status, err := remotetx.Ask(a.command.Context(), a.Server, a.Admin.Status, &assentv1.StatusRequest{})
		if err != nil {
			return err
		}
		return a.answer(output.Of(status), func() error { return remotetx.WriteStatus(a.command.OutOrStdout(), status, time.Now()) })
	})
	return command
}

// checkFormats are the values of check's --format.
var checkFormats = map[string]func(remotetx.Verdict, io.Writer) error{
	"nagios": remotetx.Verdict.WriteNagios, "json": remotetx.Verdict.WriteJSON,
	"prometheus": remotetx.Verdict.WritePrometheus, "text": remotetx.Verdict.WriteText,
}

func checkCommand() *cobra.Command {
	var options remotetx.Options
	var format string
	var age time.Duration
	command := &cobra.Command{
		Use:   "check",
		Short: "tell monitoring whether a running server is well",
		Long: `Tell monitoring whether a running server is well. Exit codes are those of monitoring
plugins: 0 ok; 1 warning: a participant is down, the server recovers or drains; 2
critical: no server answers, it is in safe mode or has failed, or a transaction is in
doubt for longer than --max-in-doubt-age; 3 unknown: the check could not be made.` + remoteHelp,
		Example: `  assent check --max-in-doubt-age 60s
  assent check --format json
  assent check --format prometheus > /var/lib/node_exporter/assent.prom`,
		Args: takesNone,
	}
	serverFlags(command.Flags(), &options)
	command.Flags().StringVar(&format, "format", "nagios", "nagios, json, prometheus or text")
	command.Flags().DurationVar(&age, "max-in-doubt-age", time.Minute, "how long a transaction may be in doubt")
	command.RunE = func(command *cobra.Command, _ []string) error {
		write, ok := checkFormats[format]
		if !ok {
			return checkFailed(command, fmt.Errorf("--format %q: want nagios, json, prometheus or text", format))
		}
		server, err := dial(command.Flags(), options)
		if err != nil {
			return checkFailed(command, err)
		}
		defer server.Close()
		status, err := remotetx.Ask(command.Context(), server, server.Admin.Status, &assentv1.StatusRequest{})
		verdict := remotetx.Check(status, err, age)
		if err := write(verdict, command.OutOrStdout()); err != nil {
			return err
		}
		return exitStatus(int(verdict.Severity))
	}
	return command
}

// checkFailed says that nothing was checked, where monitoring reads it.
func checkFailed(command *cobra.Command, err error) error {
	fmt.Fprintf(command.OutOrStdout(), "ASSENT %s - %v\n", remotetx.Unknown, err)
	return exitStatus(int(remotetx.Unknown))
}

func exitStatus(code int) error {
	if code == exitOK {
		return nil
	}
	return statusError(code)
}
