package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/coordinator/server"
)

func tokenCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "token",
		Short: "make, list and revoke tokens of a server's callers",
		Long: `Make, list and revoke tokens of a server's callers. They are in the file of the setting
auth.tokens_file, which holds no secrets: of each token only the SHA-256. A running
server takes changes up within two seconds. Who shows a client certificate instead is let
in by an entry in the same file:

  "certificates": [{"san": "dns:shop.example", "name": "shop", "role": "client"}]`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(tokenCreateCommand(), tokenListCommand(), tokenRevokeCommand())
	return command
}

func tokenFile(command *cobra.Command) *string {
	return command.Flags().StringP("file", "f", "", "`file` of the tokens ("+config.Environment("auth.tokens_file")+")")
}

func tokenPath(file string) (string, error) {
	path := cmp.Or(file, os.Getenv(config.Environment("auth.tokens_file")))
	if path == "" {
		return "", usageError{errors.New("--file is missing: name the file of the setting auth.tokens_file")}
	}
	return path, nil
}

func tokenCreateCommand() *cobra.Command {
	var roleText string
	var lasts time.Duration
	var participants []string
	command := &cobra.Command{
		Use:   "create NAME",
		Short: "make a token and print it, once",
		Long: `Make a token and print it: it can't be shown again. The name is the owner of the
transactions that are begun with it, and stands in the log beside an operator's words.
Several tokens may have the same name, so that one replaces another without a pause.

Roles: a client makes transactions and sees its own; a viewer sees all; an operator
settles them; an admin may do everything.`,
		Example: `  assent token create shop --file tokens.json > shop.token
  assent token create ledger --role client --participants ledger --expires 720h --file tokens.json
  assent token create alice --role operator --file tokens.json`,
		Args: takes("NAME"),
	}
	file := tokenFile(command)
	command.Flags().StringVar(&roleText, "role", "client", "client, viewer, operator or admin")
	command.Flags().DurationVar(&lasts, "expires", 0, "how long it is valid (default: for ever)")
	command.Flags().StringSliceVar(&participants, "participants", nil, "`names` of participants that its bearer may be an instance of")
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		path, err := tokenPath(*file)
		if err != nil {
			return err
		}
		var role server.Role
		if err := role.UnmarshalText([]byte(roleText)); err != nil {
			return usageError{fmt.Errorf("--role: %w", err)}
		}
		var expires time.Time
		if lasts < 0 {
			return usageError{fmt.Errorf("--expires %s is negative", lasts)}
		} else if lasts > 0 {
			expires = time.Now().UTC().Add(lasts).Truncate(time.Second)
		}
		secret, token, err := server.NewToken(args[0], role, expires, participants...)
		if err != nil {
			return usageError{err}
		}
		err = changeCredentials(path, true, func(c *server.Credentials) error {
			c.Tokens = append(c.Tokens, token)
			return nil
		})
		if err != nil {
			return err
		}
		if asJSON {
			return output.Write(command.OutOrStdout(), output.JSON, append(output.Fields{{Name: "token", Value: secret}}, tokenFields(token)...))
		}
		fmt.Fprintf(command.ErrOrStderr(), "token %s of %s, role %s, is in %s; keep what follows: it can't be shown again\n", token.ID(), token.Name, roleText, path)
		_, err = fmt.Fprintln(command.OutOrStdout(), secret)
		return err
	})
	return command
}

func tokenListCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "list",
		Short: "list tokens",
		Long:  `List tokens: whose they are and what they allow.`,
		Example: `  assent token list --file tokens.json
  assent token list --file tokens.json -o json | jq '.[] | select(.role == "admin")'`,
		Args: takesNone,
	}
	file := tokenFile(command)
	runs(command, func(command *cobra.Command, _ []string, asJSON bool) error {
		path, err := tokenPath(*file)
		if err != nil {
			return err
		}
		c, err := readCredentials(path, false)
		if err != nil {
			return err
		}
		list, rows := []output.Fields{}, [][]string{}
		for _, t := range c.Tokens {
			list = append(list, tokenFields(t))
			expires := timeText(t.Expires)
			if !t.Expires.IsZero() && !time.Now().Before(t.Expires) {
				expires += " (over)"
			}
			rows = append(rows, []string{t.ID(), t.Name, t.Role.String(), timeText(t.Created), expires, strings.Join(t.Participants, ",")})
		}
		if asJSON {
			return output.Write(command.OutOrStdout(), output.JSON, list)
		}
		return output.Rows(command.OutOrStdout(), []string{"ID", "NAME", "ROLE", "CREATED", "EXPIRES", "PARTICIPANTS"}, rows)
	})
	return command
}

func tokenRevokeCommand() *cobra.Command {
	command := &cobra.Command{
		Use:     "revoke ID",
		Short:   "take a token away",
		Long:    `Take a token away, by the ID that 'assent token list' shows. Who has it is refused from then on.`,
		Example: `  assent token revoke 4f1c2a90 --file tokens.json`,
		Args:    takes("ID"),
	}
	file := tokenFile(command)
	runs(command, func(command *cobra.Command, args []string, asJSON bool) error {
		path, err := tokenPath(*file)
		if err != nil {
			return err
		}
		err = changeCredentials(path, false, func(c *server.Credentials) error {
			if !c.Revoke(args[0]) {
				return notFoundError{fmt.Errorf("%s has no token %q: 'assent token list' shows their IDs", path, args[0])}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if asJSON {
			return output.Write(command.OutOrStdout(), output.JSON, output.Fields{{Name: "id", Value: args[0]}, {Name: "revoked", Value: true}})
		}
		_, err = fmt.Fprintf(command.OutOrStdout(), "token %s is revoked\n", args[0])
		return err
	})
	return command
}

// changeCredentials reads the file, changes it and writes it. Who does so at the same
// time waits: a token that was revoked must not come back.
func changeCredentials(path string, mayBeNew bool, change func(*server.Credentials) error) (err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", dir.Name(), err)
	}
	c, err := readCredentials(path, mayBeNew)
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	return server.WriteCredentials(path, c)
}

func readCredentials(path string, mayBeNew bool) (*server.Credentials, error) {
	c, err := server.ReadCredentials(path)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return c, err
	case mayBeNew:
		return &server.Credentials{}, nil
	default:
		return nil, usageError{fmt.Errorf("--file: %w; 'assent token create' makes it", err)}
	}
}

func tokenFields(t server.Token) output.Fields {
	participants := t.Participants
	if participants == nil {
		participants = []string{}
	}
	return output.Fields{
		{Name: "id", Value: t.ID()},
		{Name: "name", Value: t.Name},
		{Name: "role", Value: t.Role.String()},
		{Name: "created", Value: timeText(t.Created)},
		{Name: "expires", Value: timeText(t.Expires)},
		{Name: "participants", Value: participants},
	}
}

func timeText(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}
