package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	"github.com/assent-tm/assent/participant"
)

const remoteHelp = `

Transactions are asked of the server's api listener, --server or ASSENT_SERVER, and what
operators say and status of its admin listener, --admin or ASSENT_ADMIN. A token is taken
from --token-file or ASSENT_TOKEN.`

// asked is what a command that asks a server works with.
type asked struct {
	*remotetx.Server
	command *cobra.Command
	args    []string
	format  output.Format
}

// asks adds the flags that say which server, and -o, and has the command run do.
func asks(command *cobra.Command, do func(a asked) error) {
	var options remotetx.Options
	serverFlags(command.Flags(), &options)
	format := command.Flags().StringP("output", "o", "table", "table, json or yaml")
	command.RunE = func(command *cobra.Command, args []string) error {
		a := asked{command: command, args: args}
		var err error
		if a.format, err = output.ParseFormat(*format, output.Table, output.JSON, output.YAML); err != nil {
			return usageError{err}
		}
		if a.Server, err = dial(command.Flags(), options); err != nil {
			return err
		}
		defer a.Close()
		return do(a)
	}
}

func serverFlags(flags *pflag.FlagSet, o *remotetx.Options) {
	flags.StringVar(&o.Server, "server", remotetx.DefaultServer, "`URL` of the server's api listener (ASSENT_SERVER)")
	flags.StringVar(&o.Admin, "admin", remotetx.DefaultAdmin, "`URL` of its admin listener (ASSENT_ADMIN)")
	flags.StringVar(&o.TokenFile, "token-file", "", "`file` with a token (ASSENT_TOKEN_FILE; or the token itself in ASSENT_TOKEN)")
	flags.StringVar(&o.CA, "ca", "", "`file` of certificates that sign the server's (ASSENT_CA; default: the system's)")
	flags.StringVar(&o.Cert, "cert", "", "`file` with the certificate to show to the server (ASSENT_CERT)")
	flags.StringVar(&o.Key, "key", "", "`file` with that certificate's key (ASSENT_KEY)")
	flags.DurationVar(&o.Timeout, "timeout", remotetx.DefaultTimeout, "how long to wait for an answer (ASSENT_TIMEOUT)")
}

// dial takes from the environment what no flag says.
func dial(flags *pflag.FlagSet, o remotetx.Options) (*remotetx.Server, error) {
	for name, field := range map[string]*string{
		"server": &o.Server, "admin": &o.Admin, "token-file": &o.TokenFile, "ca": &o.CA, "cert": &o.Cert, "key": &o.Key,
	} {
		if value := os.Getenv(config.Environment(name)); value != "" && !flags.Changed(name) {
			*field = value
		}
	}
	if value := os.Getenv("ASSENT_TIMEOUT"); value != "" && !flags.Changed("timeout") {
		timeout, err := time.ParseDuration(value)
		if err != nil {
			return nil, usageError{fmt.Errorf("ASSENT_TIMEOUT: %w", err)}
		}
		o.Timeout = timeout
	}
	// A flag wins over the environment.
	if !flags.Changed("token-file") {
		o.Token = os.Getenv("ASSENT_TOKEN")
	}
	return remotetx.Dial(o)
}

// transaction is the command's first argument, which has to be an id.
func (a asked) transaction() (string, error) {
	if _, err := participant.ParseTxID(a.args[0]); err != nil {
		return "", usageError{err}
	}
	return a.args[0], nil
}

// answer prints a value in the format that was asked for, or by table.
func (a asked) answer(value any, table func() error) error {
	if a.format == output.Table {
		return table()
	}
	return output.Write(a.command.OutOrStdout(), a.format, value)
}

// say prints a line for people, unless a program reads.
func (a asked) say(text string, args ...any) error {
	_, err := fmt.Fprintf(a.command.OutOrStdout(), text+"\n", args...)
	return err
}
