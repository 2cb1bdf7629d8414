package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

const operatorHelp = `

First it is shown what will be done. Then it asks for the transaction's id, as the
confirmation, unless --yes is given. The word is recorded in the server's log with who
said it and why, before it takes effect. No word rewrites a decision.`

// said is an operator's word as it goes to the server.
type said struct {
	asked
	id, reason string
	dryRun     bool
}

// operates makes the command one of an operator's: do passes the word on and returns
// what is done about it, or would be.
func operates(command *cobra.Command, do func(s said) ([]string, error)) *cobra.Command {
	var s said
	var yes bool
	command.Long += operatorHelp
	f := command.Flags()
	f.StringVar(&s.reason, "reason", "", "why, for those who ask later (required)")
	f.BoolVar(&yes, "yes", false, "do not ask for a confirmation")
	f.BoolVar(&s.dryRun, "dry-run", false, "only show what would be done")
	asks(command, func(a asked) (err error) {
		s.asked = a
		if s.id, err = a.transaction(); err != nil {
			return err
		}
		if err := usefulReason(s.reason); err != nil {
			return err
		}
		if !yes && !s.dryRun {
			if err := s.confirm(do); err != nil {
				return err
			}
		}
		actions, err := do(s)
		if err != nil {
			return err
		}
		return s.report(actions)
	})
	return command
}

// confirm shows what would be done and has the operator type the transaction's id.
func (s said) confirm(do func(s said) ([]string, error)) error {
	input, isFile := s.command.InOrStdin().(*os.File)
	if isFile && terminal(input) == nil {
		return usageError{errors.New("nobody is there to confirm it: give --yes, or --dry-run to see what would be done")}
	}
	asked := s
	asked.dryRun = true
	actions, err := do(asked)
	if err != nil {
		return err
	}
	terminal := s.command.ErrOrStderr()
	for _, action := range actions {
		fmt.Fprintln(terminal, "would be done:", output.Clean(action))
	}
	fmt.Fprintf(terminal, "Type the transaction's id to confirm: ")
	typed, err := bufio.NewReader(s.command.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the confirmation: %w", err)
	}
	if strings.TrimSpace(typed) != s.id {
		return usageError{errors.New("that is not the transaction's id: nothing was done")}
	}
	return nil
}

func (s said) report(actions []string) error {
	if actions == nil {
		actions = []string{}
	}
	answer := output.Fields{{Name: "transaction_id", Value: s.id}, {Name: "dry_run", Value: s.dryRun}, {Name: "actions", Value: actions}}
	return s.answer(answer, func() error {
		done := "done"
		if s.dryRun {
			done = "would be done"
		}
		if len(actions) == 0 {
			return s.say("nothing is to be done")
		}
		for _, action := range actions {
			if err := s.say("%s: %s", done, output.Clean(action)); err != nil {
				return err
			}
		}
		return nil
	})
}

func txRetryCommand() *cobra.Command {
	return operates(&cobra.Command{
		Use:   "retry TRANSACTION --reason TEXT",
		Short: "tell participants the decision at once",
		Long: `Tell the participants that have not acknowledged the decision at once, instead of when
their next turn is.`,
		Example: `  assent tx retry $ID --reason "bank_b is up again, T-4711" --yes`,
		Args:    takes("TRANSACTION"),
	}, func(s said) ([]string, error) {
		request := &assentv1.RetryRequest{TransactionId: s.id, Reason: s.reason, DryRun: s.dryRun}
		answer, err := remotetx.Ask(s.command.Context(), s.Server, s.Admin.Retry, request)
		return answer.GetActions(), err
	})
}

func txPauseCommand() *cobra.Command {
	return operates(&cobra.Command{
		Use:   "pause TRANSACTION --reason TEXT",
		Short: "stop telling participants a decision",
		Long: `Stop telling participants a transaction's decision, until 'assent tx resume'; also
across a restart of the server. Their branches stay prepared, and their locks held.`,
		Example: `  assent tx pause $ID --reason "bank_b's disk is being moved, T-4711"`,
		Args:    takes("TRANSACTION"),
	}, func(s said) ([]string, error) {
		request := &assentv1.PauseRequest{TransactionId: s.id, Reason: s.reason, DryRun: s.dryRun}
		answer, err := remotetx.Ask(s.command.Context(), s.Server, s.Admin.Pause, request)
		return answer.GetActions(), err
	})
}

func txResumeCommand() *cobra.Command {
	return operates(&cobra.Command{
		Use:     "resume TRANSACTION --reason TEXT",
		Short:   "tell participants the decision again",
		Long:    `Go on telling participants the decision of a transaction that was paused.`,
		Example: `  assent tx resume $ID --reason "bank_b's disk was moved, T-4711"`,
		Args:    takes("TRANSACTION"),
	}, func(s said) ([]string, error) {
		request := &assentv1.ResumeRequest{TransactionId: s.id, Reason: s.reason, DryRun: s.dryRun}
		answer, err := remotetx.Ask(s.command.Context(), s.Server, s.Admin.Resume, request)
		return answer.GetActions(), err
	})
}

func txForgetBranchCommand() *cobra.Command {
	return operates(&cobra.Command{
		Use:   "forget-branch TRANSACTION PARTICIPANT --reason TEXT",
		Short: "give a branch up whose participant is gone for good",
		Long: `Give a branch up: its participant is not told the decision any more, and its outcome is
recorded as a heuristic hazard: nobody knows what became of it. For participants that
are gone for good. If you finished the branch by hand, use 'assent tx resolve'.`,
		Example: `  assent tx forget-branch $ID bank_b --reason "bank_b was shut down for good, T-4711" --dry-run`,
		Args:    takes("TRANSACTION", "PARTICIPANT"),
	}, func(s said) ([]string, error) {
		request := &assentv1.ForgetBranchRequest{TransactionId: s.id, Participant: s.args[1], Reason: s.reason, DryRun: s.dryRun}
		answer, err := remotetx.Ask(s.command.Context(), s.Server, s.Admin.ForgetBranch, request)
		return answer.GetActions(), err
	})
}

func txResolveCommand() *cobra.Command {
	var outcome string
	command := &cobra.Command{
		Use:   "resolve TRANSACTION PARTICIPANT --outcome OUTCOME --reason TEXT",
		Short: "record what was done to a branch by hand",
		Long: `Record what you did to a branch by hand, at its service ('assent tx get ID --sql' prints
how): the participant is not told any more. Against the decision it is recorded as a
heuristic outcome.`,
		Example: `  assent tx resolve $ID bank_b --outcome committed --reason "COMMIT PREPARED by hand, T-4711"`,
		Args:    takes("TRANSACTION", "PARTICIPANT"),
	}
	command.Flags().StringVar(&outcome, "outcome", "", "committed or rolled-back (required)")
	return operates(command, func(s said) ([]string, error) {
		request := &assentv1.ResolveRequest{TransactionId: s.id, Participant: s.args[1], Reason: s.reason, DryRun: s.dryRun}
		switch outcome {
		case "committed":
			request.Outcome = assentv1.Outcome_OUTCOME_COMMITTED
		case "rolled-back":
			request.Outcome = assentv1.Outcome_OUTCOME_ROLLED_BACK
		default:
			return nil, usageError{fmt.Errorf("--outcome %q: want committed or rolled-back", outcome)}
		}
		answer, err := remotetx.Ask(s.command.Context(), s.Server, s.Admin.Resolve, request)
		return answer.GetActions(), err
	})
}
