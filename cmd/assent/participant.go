package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/participantcheck"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	"github.com/assent-tm/assent/cmd/assent/standalone"
	"github.com/assent-tm/assent/participant/remote"
)

func participantCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "participant",
		Short: "for those who write a participant, in whatever language",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(participantCheckCommand())
	return command
}

// participantFlags are what a check is asked for, as it is written.
type participantFlags struct {
	cfg        participantcheck.Config
	secretFile string
	refuse     string
	allow      []string
	tls        config.ParticipantTLS
	list       bool
	format     string
}

func participantCheckCommand() *cobra.Command {
	var f participantFlags
	command := &cobra.Command{
		Use:   "check URL",
		Short: "check that a running service keeps the contract of a participant",
		Long: `Check that a running service, in whatever language, keeps the contract of a participant:
it is asked what a coordinator asks, twice, too late, side by side and in the wrong order,
and what none would: calls that are unsigned, forged, old or malformed. URL is what
the server's configuration has as the participant's url.

It really prepares, commits and rolls back branches with the payload of --data: give a
service for tests. In --data, --refuse-data and --visible-url, {n} becomes a number and
{uuid} a UUID that are the branch's alone in this run, {xid} the branch's XID.

What can't be checked is said, and does not fail:
  partly    the answers were right; without --visible-url nobody saw the effects. That URL
            answers 200 if those of the branch are visible, 404 if not; any other status
            fails the case: answer so if they are there twice
  not run   the service was not said to have what the case needs; nothing is killed
            without --restart-cmd

Exit code 0: nothing failed; 1: some case failed; 2: wrong usage; 3: the service is not
there, or does not answer.`,
		Example: `  assent participant check http://127.0.0.1:8081 --secret-file bank.secret --lists --forgets --keeps-epoch \
      --data '{uuid} 1' --refuse-data '{uuid} -1' --visible-url 'http://127.0.0.1:8081/accounts/{uuid}'
  assent participant check https://bank.example/assent --data 30 --restart-cmd 'systemctl kill -s KILL bank; systemctl start bank'
  assent participant check https://bank.example:8443 --grpc --ca ca.pem --cert me.pem --key me.key --data 30 -o json
  assent participant check --list`,
		Args: func(command *cobra.Command, args []string) error {
			if f.list {
				return cobra.NoArgs(command, args)
			}
			return cobra.ExactArgs(1)(command, args)
		},
	}
	f.add(command.Flags())
	command.RunE = func(command *cobra.Command, args []string) error {
		format, err := output.ParseFormat(f.format, output.Table, output.JSON, output.YAML)
		if err != nil {
			return usageError{err}
		}
		if f.list {
			return listCases(command, format)
		}
		f.cfg.URL = args[0]
		check, err := f.check(command.Flags())
		if err != nil {
			return usageError{err}
		}
		return runCheck(command, check, format)
	}
	return command
}

func (f *participantFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.cfg.Name, "name", "participant", "the `name` under which the service is called")
	flags.StringVar(&f.secretFile, "secret-file", "", "`file` with the secrets that calls are signed with, one a line")
	flags.StringVar(&f.cfg.Data, "data", "", "`payload` of a branch that the service prepares")
	flags.StringVar(&f.refuse, "refuse-data", "", "`payload` of a branch that it has to refuse")
	flags.StringVar(&f.cfg.VisibleURL, "visible-url", "", "`URL` that answers 200 if a branch's effects are visible, 404 if not")
	flags.StringVar(&f.cfg.Restart, "restart-cmd", "", "shell `command` that kills the service (kill -9) and starts it again")
	flags.BoolVar(&f.cfg.Lists, "lists", false, "the service has URL/prepared")
	flags.BoolVar(&f.cfg.Forgets, "forgets", false, "the service has URL/forget")
	flags.BoolVar(&f.cfg.KeepsEpoch, "keeps-epoch", false, "the service refuses lower epochs")
	flags.BoolVar(&f.cfg.GRPC, "grpc", false, "the service is an assent.v1.ParticipantService over gRPC")
	flags.DurationVar(&f.cfg.Within, "within", time.Second, "how soon a call should be answered")
	flags.StringSliceVar(&f.allow, "allow", nil, "`networks` in which the service may be, such as 10.0.0.0/8 (default: anywhere)")
	flags.BoolVar(&f.cfg.AllowInsecure, "allow-insecure", false, "call it without TLS though it is not on this machine")
	flags.StringVar(&f.tls.CAFile, "ca", "", "`file` of certificates that sign the service's (default: the system's)")
	flags.StringVar(&f.tls.CertFile, "cert", "", "`file` with the certificate to show to the service")
	flags.StringVar(&f.tls.KeyFile, "key", "", "`file` with its key")
	flags.StringArrayVar(&f.cfg.Cases, "case", nil, "run this `case` alone; may be given several times")
	flags.BoolVar(&f.list, "list", false, "print the cases and their rules, and ask nobody")
	flags.StringVarP(&f.format, "output", "o", "table", "table, json or yaml")
}

// check returns what the flags ask for, or what is wrong with them.
func (f *participantFlags) check(flags *pflag.FlagSet) (*participantcheck.Check, error) {
	cfg := f.cfg
	cfg.Output = os.Stderr
	if flags.Changed("refuse-data") {
		cfg.RefuseData = &f.refuse
	}
	for _, text := range f.allow {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--allow %q is not a network: write it as 10.0.0.0/8 or 2001:db8::/32", text)
		}
		cfg.AllowPrefixes = append(cfg.AllowPrefixes, prefix)
	}
	var err error
	if cfg.TLS, err = standalone.ClientTLS(f.tls); err != nil {
		return nil, err
	}
	if f.secretFile != "" {
		if cfg.Secrets, err = readSecrets(f.secretFile); err != nil {
			return nil, fmt.Errorf("--secret-file: %w", err)
		}
	}
	return participantcheck.New(cfg)
}

// readSecrets reads a file as a participant's secret_file is read.
func readSecrets(path string) (secrets []remote.Secret, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("everybody may read %s: chmod o-rwx %s", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		secret, err := remote.ParseSecret(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: echo whsec_$(openssl rand -base64 32) makes one", path, err)
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		return nil, fmt.Errorf("%s holds no secret", path)
	}
	return secrets, nil
}

func listCases(command *cobra.Command, format output.Format) error {
	var rows [][]string
	list := []output.Fields{}
	for _, c := range participantcheck.Cases() {
		rows = append(rows, []string{c.Name, c.Rule})
		list = append(list, output.Fields{{Name: "case", Value: c.Name}, {Name: "rule", Value: c.Rule}})
	}
	if format == output.Table {
		return output.Rows(command.OutOrStdout(), []string{"CASE", "RULE"}, rows)
	}
	return output.Write(command.OutOrStdout(), format, list)
}

// runCheck prints what is being done to stderr, and then the results, also if the service
// went away in between.
func runCheck(command *cobra.Command, check *participantcheck.Check, format output.Format) error {
	done := 0
	results, err := check.Run(command.Context(), func(r participantcheck.Result) {
		done++
		fmt.Fprintf(command.ErrOrStderr(), "[%d/%d] %s: %s\n", done, check.Len(), r.Name, r.Outcome)
	})
	if errors.Is(err, context.Canceled) || errors.Is(err, participantcheck.ErrUnreachable) && len(results) == 0 {
		return unreachable(err)
	}
	var printed error
	if format == output.Table {
		printed = participantcheck.WriteTable(command.OutOrStdout(), results)
	} else {
		printed = output.Write(command.OutOrStdout(), format, participantcheck.Fields(results))
	}
	if err = errors.Join(printed, unreachable(err)); err != nil {
		return err
	}
	if _, failed, _, _ := participantcheck.Counts(results); failed > 0 {
		return statusError(exitFailed)
	}
	return nil
}

func unreachable(err error) error {
	if !errors.Is(err, participantcheck.ErrUnreachable) {
		return err
	}
	return &remotetx.Error{Kind: remotetx.Unreachable, Message: err.Error(), Cause: err}
}
