package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Keep closes the server as Close does, but ends it in order, as Stop does, and
// leaves its directory to whoever wants to look into it. It returns the shell command
// that serves it again at the same port.
func (s *Server) Keep(ctx context.Context) (again string, err error) {
	err = s.do(ctx, "keep", func(ctx context.Context) error {
		s.closed = true
		again = s.shell(s.program.Command(s.dir, s.port.number))
		// Without this file nobody takes the directory for a leftover.
		return errors.Join(s.stop(ctx), os.Remove(filepath.Join(s.dir, claimName)), s.claim.Close(), s.port.release())
	})
	return again, err
}

// shell returns how a shell runs the command as the server's owner.
func (s *Server) shell(command *exec.Cmd) string {
	words := []string{"cd", s.dir, "&&"}
	if s.owner != nil {
		words = append(words, "setpriv", "--reuid="+s.owner.name, fmt.Sprintf("--regid=%d", s.owner.gid), "--clear-groups", "--")
	}
	inherited := os.Environ()
	var own []string
	for _, variable := range command.Env {
		if !slices.Contains(inherited, variable) {
			own = append(own, variable)
		}
	}
	if len(own) > 0 {
		words = append(append(words, "env"), own...)
	}
	for _, arg := range command.Args {
		words = append(words, quoteWord(arg))
	}
	return strings.Join(words, " ")
}

var plainWord = regexp.MustCompile(`^[\w./:=,@%+-]+$`)

func quoteWord(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
