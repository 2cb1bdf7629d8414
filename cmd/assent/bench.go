package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/bench"
)

// benchOutputs are the values of --output.
var benchOutputs = map[string]func(io.Writer, bench.Report) error{
	"table": bench.WriteTable, "json": bench.WriteJSON, "markdown": bench.WriteMarkdown,
}

type benchFlags struct {
	bench.Options
	output, plot string
}

func benchCommand() *cobra.Command {
	var flags benchFlags
	command := &cobra.Command{
		Use:   "bench",
		Short: "measure Assent against plain bbolt on this machine's disk",
		Long: `Measure Assent against plain bbolt, side by side in the same rounds, because a
disk's speed changes from minute to minute: trust the ratios, not the absolutes.

A transaction is one begin, two enlists of participants that do nothing, and a
commit that both have acknowledged. It is compared with the same five records
written the obvious way, one db.Update each. Each figure is the median of its
rounds; what it should be stands beside it.

With --databases, transactions over PostgreSQL and MariaDB are measured, too (the
figures of pair), against local ones and against two-phase commit by hand. It
starts servers of its own, from Debian's packages postgresql-15 and
mariadb-server, with their files in the directory for temporary files.

With --server, the standalone server is measured, too (the figures of server), by
load and services in processes of their own on this machine.

Takes a few minutes and 4 GiB of memory; a minute and 1 GiB with --quick. The
figures are:
` + wrap(bench.Names(), 76),
		Example: `  assent bench --quick
  assent bench --dir /var/lib/assent -o json
  assent bench --only disk --only log.commit
  assent bench --plot clients.svg
  assent bench --databases --only pair
  assent bench --server --only server`,
		Args: takesNone,
		RunE: func(command *cobra.Command, _ []string) error { return runBench(command, flags) },
	}
	f := command.Flags()
	f.StringVar(&flags.Dir, "dir", "", "`directory` on the disk to measure (default: that for temporary files)")
	f.StringArrayVar(&flags.Only, "only", nil, "measure only figures whose `name` begins so; may be repeated")
	f.IntVar(&flags.Rounds, "rounds", 7, "slices that each figure is the median of")
	f.DurationVar(&flags.Slice, "slice", 400*time.Millisecond, "how long a slice is")
	f.BoolVar(&flags.Databases, "databases", false, "also measure the figures of pair, on a PostgreSQL and a MariaDB server of its own")
	f.BoolVar(&flags.Server, "server", false, "also measure the figures of server, of a standalone server of its own")
	f.BoolVar(&flags.Quick, "quick", false, "fewer and shorter slices, smaller sets")
	f.StringVar(&flags.plot, "plot", "", "also draw throughput and latency over clients to a `file`, .svg or .png")
	f.StringVarP(&flags.output, "output", "o", "table", "table, json or markdown")
	return command
}

func runBench(command *cobra.Command, flags benchFlags) (err error) {
	write, ok := benchOutputs[flags.output]
	if !ok {
		return usageError{fmt.Errorf("--output %q: want table, json or markdown", flags.output)}
	}
	if flags.Quick {
		if command.Flags().Changed("rounds") || command.Flags().Changed("slice") {
			return usageError{errors.New("--quick sets --rounds and --slice: give either")}
		}
		flags.Rounds, flags.Slice = 3, 200*time.Millisecond
	}
	draw, err := openPlot(flags.plot)
	if err != nil {
		return usageError{fmt.Errorf("--plot: %w", err)}
	}
	defer func() { err = errors.Join(err, draw.close()) }()
	machine, err := bench.Describe(flags.Dir)
	if err != nil {
		return usageError{err}
	}
	if machine.InMemory() {
		fmt.Fprintf(command.ErrOrStderr(), "warning: no disk is measured: %s makes nothing durable; give a --dir on a disk\n", machine.FileSystem)
	}
	line := bench.NewLine(command.ErrOrStderr(), terminal(os.Stderr) != nil)
	flags.Progress, flags.Clients = line.Show, flags.plot != ""
	report, err := bench.Run(command.Context(), flags.Options)
	line.Clear()
	var bad bench.BadOption
	if errors.As(err, &bad) {
		return usageError{err}
	}
	if err != nil {
		return err
	}
	return errors.Join(write(command.OutOrStdout(), report), draw.write(report))
}

// plotFile is opened before anything is measured: what can't be written is to be
// known first.
type plotFile struct {
	file   *os.File // nil without --plot
	format string
	drawn  bool
	isNew  bool
}

func openPlot(path string) (*plotFile, error) {
	if path == "" {
		return &plotFile{}, nil
	}
	format, err := bench.PlotFormat(path)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(path)
	p := &plotFile{format: format, isNew: errors.Is(err, os.ErrNotExist)}
	p.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	return p, err
}

func (p *plotFile) write(r bench.Report) error {
	if p.file == nil {
		return nil
	}
	picture, err := bench.Plot(r, p.format)
	if err != nil {
		return err
	}
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err = p.file.Write(picture)
	p.drawn = err == nil
	return err
}

// close leaves no empty file behind.
func (p *plotFile) close() error {
	if p.file == nil {
		return nil
	}
	err := p.file.Close()
	if p.isNew && !p.drawn {
		err = errors.Join(err, os.Remove(p.file.Name()))
	}
	return err
}

// wrap sets names in lines of at most width characters.
func wrap(names []string, width int) string {
	var text strings.Builder
	column := 0
	for _, name := range names {
		switch {
		case column == 0:
			text.WriteString("  ")
		case column+1+len(name) > width:
			text.WriteString("\n  ")
			column = 0
		default:
			text.WriteString(" ")
			column++
		}
		text.WriteString(name)
		column += len(name)
	}
	return text.String()
}
