package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// takes is cobra.ExactArgs that names what is missing.
func takes(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return fmt.Errorf("want %s, got %d arguments", strings.Join(names, " and "), len(args))
		}
		return nil
	}
}

// takesNone is cobra.NoArgs, which says that an argument is an unknown command.
func takesNone(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q: only flags are wanted here", args[0])
	}
	return nil
}

// takesAny wants at least one of them.
func takesAny(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("want at least one %s", name)
		}
		return nil
	}
}
