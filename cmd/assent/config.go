package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/output"
)

const configHelp = `

A value comes from its flag, else from its variable (ASSENT_ and the key in capitals,
such as ASSENT_TIMEOUTS_CALL), else from the file of --config, else it is the default.
Secrets have files of their own (secret_file), or a variable for each participant, such
as ASSENT_SECRET_BANK_A.`

// configured is how a command gets a server's configuration.
type configured struct {
	flags  *pflag.FlagSet
	values config.Config // as flags have it
}

// configFlags adds --config and a flag for each setting.
func configFlags(command *cobra.Command) *configured {
	c := &configured{flags: command.Flags(), values: config.Default()}
	c.flags.StringP("config", "c", "", "`file` in YAML (ASSENT_CONFIG)")
	for _, s := range config.Settings(&c.values) {
		f := c.flags.VarPF(&settingFlag{text: s.Text(), kind: s.Kind()}, s.Flag(), "", s.Help)
		if s.Kind() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	return c
}

// settingFlag keeps a flag's text: package config reads it, and says what is wrong.
type settingFlag struct{ text, kind string }

func (f *settingFlag) Set(text string) error {
	f.text = text
	return nil
}

func (f *settingFlag) String() string { return f.text }

func (f *settingFlag) Type() string { return f.kind }

// load reads the configuration. Its warnings are printed.
func (c *configured) load(command *cobra.Command) (*config.Loaded, error) {
	given := map[string]string{}
	for _, s := range config.Settings(&c.values) {
		if f := c.flags.Lookup(s.Flag()); f.Changed {
			given[s.Key] = f.Value.String()
		}
	}
	path := cmp.Or(c.flags.Lookup("config").Value.String(), os.Getenv("ASSENT_CONFIG"))
	loaded, err := config.Load(config.Sources{Path: path, Environment: os.Environ(), Flags: given})
	if err != nil {
		return nil, usageError{err}
	}
	for _, warning := range loaded.Warnings {
		fmt.Fprintln(command.ErrOrStderr(), "warning:", output.Clean(warning))
	}
	return loaded, nil
}

func configCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "config",
		Short: "show and check a server's configuration",
		Long:  `Show and check a server's configuration.` + configHelp,
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(configPrintCommand(), configValidateCommand())
	return command
}

func configPrintCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "print",
		Short: "print the configuration that is in force",
		Long: `Print the configuration that is in force, as a file to begin with, or with --origin with
where each value comes from. Secrets are not printed.` + configHelp,
		Example: `  assent config print --domain orders > assent.yaml
  assent config print --config assent.yaml --origin
  assent config print --config assent.yaml -o json`,
		Args: takesNone,
	}
	from := configFlags(command)
	origin := command.Flags().Bool("origin", false, "say where each value comes from")
	format := command.Flags().StringP("output", "o", "yaml", "yaml, table or json")
	command.RunE = func(command *cobra.Command, _ []string) error {
		f, err := output.ParseFormat(*format, output.YAML, output.Table, output.JSON)
		if err != nil {
			return usageError{err}
		}
		loaded, err := from.load(command)
		if err != nil {
			return err
		}
		return printConfig(command, loaded, f, *origin)
	}
	return command
}

func printConfig(command *cobra.Command, loaded *config.Loaded, format output.Format, origin bool) error {
	out := command.OutOrStdout()
	if format == output.YAML {
		return output.Write(out, format, loaded.YAML(origin))
	}
	header, rows, list := []string{"KEY", "VALUE"}, [][]string{}, []output.Fields{}
	if origin {
		header = []string{"KEY", "VALUE", "ORIGIN"}
	}
	for _, v := range loaded.Values() {
		row, fields := []string{v.Key, v.Text}, output.Fields{{Name: "key", Value: v.Key}, {Name: "value", Value: v.Text}}
		if origin {
			row = append(row, v.Origin)
			fields.Add("origin", v.Origin)
		}
		rows, list = append(rows, row), append(list, fields)
	}
	if format == output.JSON {
		return output.Write(out, format, list)
	}
	return output.Rows(out, header, rows)
}

func configValidateCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "validate",
		Short: "check a server's configuration",
		Long: `Check a server's configuration, and the files that it names: certificates, keys, tokens,
secrets. All that is wrong is said at once, with where it is and what to do. Exit code 2
if anything is. Starts nothing and calls nobody.` + configHelp,
		Example: `  assent config validate --config assent.yaml
  assent config validate --config assent.yaml -o json | jq -r '.problems[].where'`,
		Args: takesNone,
	}
	from := configFlags(command)
	runs(command, func(command *cobra.Command, _ []string, asJSON bool) error {
		_, err := from.load(command)
		var problems config.Problems
		if err != nil && !errors.As(err, &problems) {
			return err
		}
		if asJSON {
			list := make([]output.Fields, 0, len(problems))
			for _, p := range problems {
				list = append(list, output.Fields{{Name: "where", Value: p.Where}, {Name: "key", Value: p.Key}, {Name: "what", Value: p.What}, {Name: "fix", Value: p.Fix}})
			}
			answer := output.Fields{{Name: "valid", Value: err == nil}, {Name: "problems", Value: list}}
			return errors.Join(err, output.Write(command.OutOrStdout(), output.JSON, answer))
		}
		if err == nil {
			fmt.Fprintln(command.OutOrStdout(), "the configuration is in order")
		}
		return err
	})
	return command
}
