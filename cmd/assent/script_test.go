package main

import (
	"flag"
	"fmt"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what commands print into the scripts that compare it")

// Sessions at a terminal, as the scripts in testdata/script have them. Beside
// testscript's own they have the commands of scriptSite.
func TestSessions(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Setup:               setUpSite,
		Cmds:                siteCommands,
	})
}

// Every command that does something says how by an example, and the exit codes stand
// where they are looked for.
func TestEveryCommandHasAnExample(t *testing.T) {
	root := rootCommand()
	root.InitDefaultCompletionCmd()
	for _, code := range []int{
		exitOK, exitFailed, exitUsage, exitUnreachable, exitAuth, exitNotFound, exitConflict, exitRolledBack, exitPending, exitDamaged, exitInterrupted,
	} {
		require.Regexp(t, fmt.Sprintf(`(?m)^  %d  `, code), root.Long)
	}
	seen := 0
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			each(sub)
		}
		if c.HasSubCommands() || c.Hidden || c.Name() == "help" || c.Parent().Name() == "completion" {
			return
		}
		seen++
		require.Contains(t, c.Example, "  "+c.CommandPath(), c.CommandPath())
		require.NotEmpty(t, c.Short, c.CommandPath())
	}
	each(root)
	require.Greater(t, seen, 20)
}
