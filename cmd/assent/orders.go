package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/demo/orders"
)

// orderFlags are those of the demo with real servers.
type orderFlags struct {
	start     bool
	addresses orders.Addresses
	orders    int
}

func (f *orderFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.BoolVar(&f.start, "start-servers", false, "with servers: start PostgreSQL, MariaDB and NATS, and kill them, too")
	flags.StringVar(&f.addresses.Postgres, "postgres", "", "with servers: `URL` of a PostgreSQL database")
	flags.StringVar(&f.addresses.MySQL, "mysql", "", "with servers: data source `name` of a MariaDB or MySQL database, like user:password@tcp(host)/database")
	flags.StringVar(&f.addresses.NATS, "nats", "", "with servers: `URL` of a NATS server with JetStream (default: one that the demo starts)")
	flags.IntVar(&f.orders, "orders", 300, fmt.Sprintf("with servers: how many orders to carry out during the kills, %d to %d", orders.MinOrders, orders.MaxOrders))
}

var orderFlagNames = []string{"start-servers", "postgres", "mysql", "nats", "orders"}

// given reports whether the demo with servers is asked for.
func (f *orderFlags) given(command *cobra.Command) bool {
	for _, name := range orderFlagNames {
		if command.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// check returns what is wrong with the flags together.
func (f *orderFlags) check(command *cobra.Command) error {
	for _, name := range []string{"input", "transfers"} {
		if command.Flags().Changed(name) {
			return fmt.Errorf("--%s is of the demo without servers: leave it out, or --%s", name, strings.Join(orderFlagNames, ", --"))
		}
	}
	a := f.addresses
	switch {
	case f.start && a != (orders.Addresses{}):
		return errors.New("--start-servers starts all servers: leave it out, or --postgres, --mysql and --nats")
	case !f.start && a.Postgres == "" && a.MySQL == "":
		return errors.New("give --start-servers, or --postgres and --mysql")
	case !f.start && a.MySQL == "":
		return errors.New("--postgres needs --mysql: orders move between two databases (or --start-servers in place of both)")
	case !f.start && a.Postgres == "":
		return errors.New("--mysql needs --postgres: orders move between two databases (or --start-servers in place of both)")
	case f.orders < orders.MinOrders || f.orders > orders.MaxOrders:
		return fmt.Errorf("--orders %d is not %d to %d", f.orders, orders.MinOrders, orders.MaxOrders)
	}
	return f.addresses.Check()
}

// orderCoordinatorCommand is the child process of the demo with servers.
func orderCoordinatorCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "orders dir",
		Short:  "serve the demo with servers that started this process",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			return orders.Coordinate(command.Context(), args[0], command.InOrStdin(), command.OutOrStdout())
		},
	}
}

func runOrders(command *cobra.Command, flags demoFlags) error {
	f := flags.orders
	if err := f.check(command); err != nil {
		return usageError{err}
	}
	_, err := inDemoDir(flags.keep, "orders", func(dir string, coordinator []string) error {
		return orders.Run(command.Context(), orders.Options{
			Dir: dir, Coordinator: coordinator, Addresses: f.addresses, Orders: f.orders, Seed: flags.seed, Keep: flags.keep != "",
			Out: command.OutOrStdout(), Watch: terminal(os.Stderr),
		})
	})
	return err
}
