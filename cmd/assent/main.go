// Command assent is the distributed transaction manager as one program.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func main() {
	if err := rootCommand().Execute(); err != nil {
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	command := &cobra.Command{
		Use:          "assent",
		Short:        "a durable two-phase-commit coordinator",
		SilenceUsage: true,
	}
	command.AddCommand(versionCommand())
	return command
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "print the version of this program",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			version := "(unknown)"
			if build, ok := debug.ReadBuildInfo(); ok {
				version = build.Main.Version
			}
			_, err := fmt.Fprintln(command.OutOrStdout(), "assent", version)
			return err
		},
	}
}
