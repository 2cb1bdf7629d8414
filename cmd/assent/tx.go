package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func txCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "tx",
		Short: "make, show and settle transactions of a running server",
		Long:  `Make, show and settle transactions of a running server.` + remoteHelp,
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(txBeginCommand(), txEnlistCommand(), txCommitCommand(), txRollbackCommand(), txSubmitCommand(),
		txGetCommand(), txListCommand(), txWatchCommand(),
		txRetryCommand(), txPauseCommand(), txResumeCommand(), txForgetBranchCommand(), txResolveCommand())
	return command
}

// beginFlags are those of commands that begin a transaction.
type beginFlags struct {
	name, requestID string
	timeout         time.Duration
}

func (f *beginFlags) add(command *cobra.Command) {
	command.Flags().StringVar(&f.name, "name", "", "what the transaction is called, for people")
	command.Flags().StringVar(&f.requestID, "request-id", "", "`id` of your own: with the same one the same transaction is meant (default: a new one)")
	command.Flags().DurationVar(&f.timeout, "tx-timeout", 0, "how long the transaction may stay undecided (default: the server's)")
}

// complete makes a request id, so that what got no answer can be asked again.
func (f *beginFlags) complete() (*durationpb.Duration, error) {
	if f.requestID == "" {
		f.requestID = uuid.NewString()
	}
	switch {
	case f.timeout < 0:
		return nil, usageError{fmt.Errorf("--tx-timeout %s is negative", f.timeout)}
	case f.timeout == 0:
		return nil, nil
	default:
		return durationpb.New(f.timeout), nil
	}
}

func txBeginCommand() *cobra.Command {
	var flags beginFlags
	command := &cobra.Command{
		Use:   "begin",
		Short: "begin a transaction and print its id",
		Long: `Begin a transaction and print its id. It is rolled back unless it is decided in time
(--tx-timeout).`,
		Example: `  assent tx begin --name transfer
  ID=$(assent tx begin) && assent tx enlist $ID bank_a && assent tx commit $ID`,
		Args: takesNone,
	}
	flags.add(command)
	asks(command, func(a asked) error {
		timeout, err := flags.complete()
		if err != nil {
			return err
		}
		request := &assentv1.BeginRequest{Name: flags.name, RequestId: flags.requestID, Timeout: timeout}
		begun, err := remotetx.Ask(a.command.Context(), a.Server, a.Transactions.Begin, request)
		if err != nil {
			return err
		}
		return a.answer(output.Of(begun), func() error { return a.say("%s", begun.GetTransactionId()) })
	})
	return command
}

func txEnlistCommand() *cobra.Command {
	var text, file string
	command := &cobra.Command{
		Use:   "enlist TRANSACTION PARTICIPANT[=DATA]",
		Short: "add a participant to a transaction",
		Long: `Add a participant to a transaction, with the data that it gets with each call about
its branch, and print the branch's XID. Again with the same data it changes nothing.`,
		Example: `  assent tx enlist $ID bank_a='{"from":"alice","amount":30}'
  assent tx enlist $ID archive --data-file order.bin`,
		Args: takes("TRANSACTION", "PARTICIPANT[=DATA]"),
	}
	command.Flags().StringVar(&text, "data", "", "`text` for the participant, at most 4 KiB; as after =")
	command.Flags().StringVar(&file, "data-file", "", "the same from a `file`, - for standard input")
	asks(command, func(a asked) error {
		id, err := a.transaction()
		if err != nil {
			return err
		}
		enlistment := enlistmentOf(a.args[1])
		if given := len(enlistment.Data) > 0; given && text != "" || (given || text != "") && file != "" {
			return usageError{errors.New("PARTICIPANT=DATA, --data and --data-file: give one of them")}
		}
		if text != "" {
			enlistment.Data = []byte(text)
		}
		if file != "" {
			if enlistment.Data, err = readData(a.command, file); err != nil {
				return err
			}
		}
		request := &assentv1.EnlistRequest{TransactionId: id, Enlistment: enlistment}
		enlisted, err := remotetx.Ask(a.command.Context(), a.Server, a.Transactions.Enlist, request)
		if err != nil {
			return err
		}
		return a.answer(output.Of(enlisted), func() error { return a.say("%s", enlisted.GetXid()) })
	})
	return command
}

// enlistmentOf reads PARTICIPANT or PARTICIPANT=DATA.
func enlistmentOf(arg string) *assentv1.Enlistment {
	name, data, _ := strings.Cut(arg, "=")
	return &assentv1.Enlistment{Participant: name, Data: []byte(data)}
}

// maxData is more than a server takes, so that it says so.
const maxData = 64 << 10

func readData(command *cobra.Command, path string) (data []byte, err error) {
	from := command.InOrStdin()
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, usageError{fmt.Errorf("--data-file: %w", err)}
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		from = file
	}
	data, err = io.ReadAll(io.LimitReader(from, maxData))
	if err != nil {
		return nil, fmt.Errorf("--data-file: %w", err)
	}
	return data, nil
}

func txCommitCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "commit TRANSACTION",
		Short: "commit a transaction at all its participants, or at none",
		Long: `Commit a transaction: every participant votes, and it is committed at all of them or
rolled back at all of them. May be repeated. Exit code 0: committed; 7: rolled back; 8:
committed and some participant is still to be told, or the outcome is unknown.`,
		Example: `  assent tx commit $ID`,
		Args:    takes("TRANSACTION"),
	}
	asks(command, func(a asked) error {
		id, err := a.transaction()
		if err != nil {
			return err
		}
		committed, err := remotetx.AskOutcome(a.command.Context(), a.Server, a.Transactions.Commit, &assentv1.CommitRequest{TransactionId: id}, "assent tx commit "+id)
		if err != nil {
			return err
		}
		return a.committed(id, committed, committed.GetState())
	})
	return command
}

// committed prints the answer of a commit. What is still to be told has an exit code.
func (a asked) committed(id string, answer proto.Message, state assentv1.State) error {
	word := strings.ReplaceAll(output.Word(state), "_", " ")
	if err := a.answer(output.Of(answer), func() error { return a.say("%s %s", id, word) }); err != nil {
		return err
	}
	if state == assentv1.State_STATE_COMMITTED {
		return nil
	}
	return &remotetx.Error{
		Kind: remotetx.Pending,
		Message: fmt.Sprintf("transaction %s: committed, for good; participants are still to be told, which goes on by itself (see 'assent tx get %s'): never do the work again",
			id, id),
	}
}

func txRollbackCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "rollback TRANSACTION",
		Short:   "roll a transaction back at all its participants",
		Long:    `Roll a transaction back at all its participants. May be repeated. Exit code 6: it is too late.`,
		Example: `  assent tx rollback $ID`,
		Args:    takes("TRANSACTION"),
	}
	asks(command, func(a asked) error {
		id, err := a.transaction()
		if err != nil {
			return err
		}
		answer, err := remotetx.AskOutcome(a.command.Context(), a.Server, a.Transactions.Rollback, &assentv1.RollbackRequest{TransactionId: id}, "assent tx rollback "+id)
		if err != nil {
			return err
		}
		return a.answer(output.Of(answer), func() error { return a.say("%s rolled back", id) })
	})
	return command
}

func txSubmitCommand() *cobra.Command {
	var flags beginFlags
	command := &cobra.Command{
		Use:   "submit PARTICIPANT[=DATA]...",
		Short: "begin, enlist and commit in one call",
		Long: `Begin a transaction, enlist all that is given, and commit. With --request-id it may be
repeated: the same id with the same participants is the same transaction, also after a
restart of the server. Exit codes as of commit.`,
		Example: `  assent tx submit bank_a bank_b
  assent tx submit --request-id order-17 bank_a='{"amount":-30}' bank_b='{"amount":30}'`,
		Args: takesAny("PARTICIPANT[=DATA]"),
	}
	flags.add(command)
	asks(command, func(a asked) error {
		timeout, err := flags.complete()
		if err != nil {
			return err
		}
		request := &assentv1.SubmitRequest{Name: flags.name, RequestId: flags.requestID, Timeout: timeout}
		for _, arg := range a.args {
			request.Enlistments = append(request.Enlistments, enlistmentOf(arg))
		}
		again := "assent tx submit with --request-id " + flags.requestID + " and the same participants"
		submitted, err := remotetx.AskOutcome(a.command.Context(), a.Server, a.Transactions.Submit, request, again)
		if err != nil {
			return err
		}
		return a.committed(submitted.GetTransactionId(), submitted, submitted.GetState())
	})
	return command
}
