package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/bench"
)

func benchCommand() *cobra.Command {
	var options bench.Options
	var output string
	command := &cobra.Command{
		Use:   "bench",
		Short: "measure Assent against plain bbolt on this machine's disk",
		Long: `Measure Assent against plain bbolt, side by side in the same rounds, because a
disk's speed changes from minute to minute: trust the ratios, not the absolutes.

A transaction is one begin, two enlists of participants that do nothing, and a
commit that both have acknowledged. It is compared with the same five records
written the obvious way, one db.Update each.`,
		Example: `  assent bench
  assent bench --dir /var/lib/assent -o json`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError{fmt.Errorf("--output %q: want table or json", output)}
			}
			if options.Rounds < 1 || options.Slice <= 0 {
				return usageError{fmt.Errorf("--rounds %d and --slice %s must be positive", options.Rounds, options.Slice)}
			}
			if options.Quick && (command.Flags().Changed("rounds") || command.Flags().Changed("slice")) {
				return usageError{errors.New("--quick sets --rounds and --slice: give either")}
			}
			if options.Quick {
				options.Rounds, options.Slice = 3, 200*time.Millisecond
			}
			options.Progress = func(what string) { fmt.Fprintf(command.ErrOrStderr(), "measuring %s\n", what) }
			figures, err := bench.Run(command.Context(), options)
			if err != nil {
				return err
			}
			if output == "json" {
				return bench.WriteJSON(command.OutOrStdout(), figures)
			}
			return bench.WriteTable(command.OutOrStdout(), figures)
		},
	}
	flags := command.Flags()
	flags.StringVar(&options.Dir, "dir", "", "directory on the disk to measure (default: that for temporary files)")
	flags.IntVar(&options.Rounds, "rounds", 7, "slices that each figure is the median of")
	flags.DurationVar(&options.Slice, "slice", 400*time.Millisecond, "how long a slice is")
	flags.BoolVar(&options.Quick, "quick", false, "fewer and shorter slices: about 10 seconds")
	flags.StringVarP(&output, "output", "o", "table", "table or json")
	return command
}
