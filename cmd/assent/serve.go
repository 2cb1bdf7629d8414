package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/standalone"
)

func serveCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "run a coordinator as a server",
		Long: `Run a coordinator as a server: transactions for programs in any language, over gRPC,
gRPC-Web and JSON on one address, and what operators need on another.

SIGTERM and an interrupt drain it: nothing new begins, and what runs may finish
(timeouts.drain). A second one stops it at once, which loses nothing: the next start
recovers. SIGHUP reads the configuration again and takes up the level of the log; tokens
and certificates are taken up by themselves when their files change.` + configHelp,
		Example: `  assent serve --config assent.yaml
  assent serve --domain orders --log-path /var/lib/assent/orders.db
  ASSENT_LOGGING_FORMAT=json assent serve --config assent.yaml`,
		Args: takesNone,
	}
	from := configFlags(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		loaded, err := from.load(command)
		if err != nil {
			return err
		}
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, syscall.SIGHUP)
		defer signal.Stop(hangup)
		err = standalone.Run(command.Context(), standalone.Options{
			Config: loaded, Version: version(), Stderr: command.ErrOrStderr(), Hangup: hangup,
			Reload: func() (*config.Loaded, error) { return from.load(command) },
		})
		if err != nil && command.Context().Err() != nil {
			// It was asked to end, and did not end in order: that is to be seen.
			fmt.Fprintln(command.ErrOrStderr(), "assent:", err)
			return statusError(exitFailed)
		}
		return err
	}
	return command
}
