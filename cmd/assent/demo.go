package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/cmd/assent/demo/banks"
)

type demoFlags struct {
	input, keep string
	transfers   int
	seed        uint64
	orders      orderFlags
}

func demoCommand() *cobra.Command {
	var flags demoFlags
	command := &cobra.Command{
		Use:   "demo",
		Short: "transfers between two databases while the coordinator is killed",
		Long: `Runs transfers between two SQLite databases, kills the coordinator (kill -9) at
the worst moments, and proves from the databases that nothing was lost, made or
done by half. Needs no network and no database server; takes a few seconds,
about 10 on a slow disk.

The transfers come from a CSV file with the header from,to,amount. It is paid from
its beginning; when it ends, the money is sent back, and so on. The accounts are:
` + banks.Accounts() + `.

With --start-servers it does the like with real servers, for some 20 seconds:
orders move pieces between a PostgreSQL and a MariaDB database, each publishes a
message to NATS JetStream, and the servers are killed, too. They are of Debian's
packages postgresql-15 and mariadb-server; NATS is in this program. With --postgres
and --mysql it uses servers that are there, and kills the coordinator alone; what it
makes in them it removes at the end.

Exit code 1 means that a claim did not hold; the files are then kept.`,
		Example: `  assent demo
  assent demo --transfers 2000 --seed 7
  assent demo --input transfers.csv --keep ./demo-files
  assent demo --start-servers
  assent demo --postgres postgres://me:secret@localhost/shop --mysql 'me:secret@tcp(localhost)/shop'`,
		Args: takesNone,
		RunE: func(command *cobra.Command, _ []string) error { return runDemo(command, flags) },
	}
	command.Flags().StringVar(&flags.input, "input", "", "CSV `file` of transfers (default: built-in ones)")
	command.Flags().StringVar(&flags.keep, "keep", "", "keep databases and log in `dir`, which is new or empty (default: a temporary folder, removed at the end)")
	command.Flags().IntVar(&flags.transfers, "transfers", 500, fmt.Sprintf("how many to pay while the coordinator is killed at random, %d to %d", banks.MinTransfers, banks.MaxTransfers))
	command.Flags().Uint64Var(&flags.seed, "seed", 1, "number from which the moments of the kills are drawn")
	flags.orders.add(command)
	command.AddCommand(coordinatorCommand(), orderCoordinatorCommand())
	return command
}

// coordinatorCommand is the child process of the demo that needs no server.
func coordinatorCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "coordinator dir",
		Short:  "serve the demo that started this process",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return banks.Coordinate(command.Context(), args[0], command.InOrStdin(), command.OutOrStdout())
		},
	}
}

func runDemo(command *cobra.Command, flags demoFlags) (err error) {
	if flags.orders.given(command) {
		return runOrders(command, flags)
	}
	if flags.transfers < banks.MinTransfers || flags.transfers > banks.MaxTransfers {
		return usageError{fmt.Errorf("--transfers %d is not %d to %d", flags.transfers, banks.MinTransfers, banks.MaxTransfers)}
	}
	input, err := transfers(flags.input)
	if err != nil {
		return usageError{err}
	}
	out := command.OutOrStdout()
	kept, err := inDemoDir(flags.keep, "coordinator", func(dir string, coordinator []string) error {
		return banks.Run(command.Context(), banks.Options{
			Dir: dir, Coordinator: coordinator, Input: input, Transfers: flags.transfers, Seed: flags.seed,
			Out: out, Watch: terminal(os.Stderr),
		})
	})
	if kept != "" {
		fmt.Fprintf(out, "\nThe databases and the log are in %s\n", kept)
	}
	return err
}

// inDemoDir runs a demo in its folder. It returns the folder unless that is removed:
// the user wants to keep it, or a claim did not hold.
func inDemoDir(keep, child string, run func(dir string, coordinator []string) error) (kept string, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program, to start the coordinator: %w", err)
	}
	dir, remove, err := demoDir(keep)
	if err != nil {
		return "", err
	}
	err = run(dir, []string{program, "demo", child})
	if remove && !errors.Is(err, demo.ErrNotProven) {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, err
}

func transfers(path string) ([]banks.Transfer, error) {
	if path == "" {
		return banks.Sample()
	}
	return banks.ReadTransfers(path)
}

// demoDir returns an empty folder, and whether it is to be removed.
func demoDir(keep string) (dir string, remove bool, err error) {
	if keep == "" {
		dir, err = os.MkdirTemp("", "assent-demo-")
		return dir, true, err
	}
	if err := os.MkdirAll(keep, 0o700); err != nil {
		return "", false, usageError{fmt.Errorf("--keep: %w", err)}
	}
	names, err := os.ReadDir(keep)
	if err != nil {
		return "", false, usageError{fmt.Errorf("--keep: %w", err)}
	}
	if len(names) > 0 {
		return "", false, usageError{fmt.Errorf("--keep %s: the folder is not empty; give a new one, nothing is overwritten", keep)}
	}
	return keep, false, nil
}

// terminal returns the file if somebody watches it, else nil.
func terminal(file *os.File) io.Writer {
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return file
}
