package servers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Program says how to run a server. All fields but Setup and User are required.
type Program struct {
	// Name is how errors call the server.
	Name string
	// User is whom it runs as if the caller is the superuser; empty for the caller.
	User string
	// Setup fills the server's fresh directory, or returns the command that does, made
	// by exec.CommandContext. Nil if there is nothing to do.
	Setup func(ctx context.Context, dir string) (*exec.Cmd, error)
	// Command returns the server's command. It must stay in the foreground, listen
	// at 127.0.0.1 on this port alone, keep its data in dir and log to its standard
	// error or output. Output and credentials are set by the caller.
	Command func(dir string, port int) *exec.Cmd
	// Answers returns nil if the server at addr serves requests.
	Answers func(ctx context.Context, addr string) error
	// Shutdown is the signal that asks for an orderly end.
	Shutdown syscall.Signal
	// Orphaned is the signal that the server gets when the process that started it
	// dies: one that ends its children, too.
	Orphaned syscall.Signal
}

const (
	// startTime bounds how long a server may take to answer after its start.
	startTime = time.Minute
	// closeTime bounds how long Close waits until the kernel has ended all processes.
	closeTime = 30 * time.Second
	// logName is the file in the directory that takes the server's output.
	logName = "server.log"
)

// errClosed is what the methods of a closed Server return.
var errClosed = errors.New("the server is closed")

// Server is one private server process with a directory of its own, on a loopback
// port that it keeps over restarts. Close must be called in the end. Safe for
// concurrent use: calls take turns.
type Server struct {
	program Program
	owner   *owner
	dir     string
	claim   *os.File
	port    *port

	turn    chan struct{} // holds one value while nobody has the turn
	process *process      // nil or ended if the server is down; guarded by turn
	closed  bool          // guarded by turn
}

// Run makes a directory, starts the program in it and returns once it answers,
// which may take a minute at most. The error of a server that did not come up holds
// the last lines of its log; nothing is left of it then.
func Run(ctx context.Context, program Program) (*Server, error) {
	s := &Server{program: program, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	err := s.setUp(ctx)
	if err == nil {
		err = s.Start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close()) //nolint:contextcheck // the caller's context may be over
	}
	return s, nil
}

// Addr returns the address that clients connect to: "127.0.0.1:port".
func (s *Server) Addr() string { return net.JoinHostPort(loopback, strconv.Itoa(s.port.number)) }

// Dir returns the server's directory. Data and log are in it.
func (s *Server) Dir() string { return s.dir }

// Kill ends the server and its child processes at once, as kill -9 of all of them
// does, and returns when they are gone. What the server has handed to the operating
// system survives, what it has not is lost. A server that is down stays so: nil.
func (s *Server) Kill(ctx context.Context) error {
	return s.do(ctx, "kill", s.kill)
}

// Start starts a server that is down again, on the same data and port, and returns
// once it answers; that may take a minute at most. If it does not come up, it is
// killed, and the error holds the last lines of its log.
func (s *Server) Start(ctx context.Context) error {
	return s.do(ctx, "start", s.start)
}

// Restart is Kill and then Start, without another call in between.
func (s *Server) Restart(ctx context.Context) error {
	return s.do(ctx, "restart", func(ctx context.Context) error {
		if err := s.kill(ctx); err != nil {
			return err
		}
		return s.start(ctx)
	})
}

// Stop ends the server in order and returns when it is gone. If ctx ends first, the
// server is killed, and the error says so. A server that is down stays so: nil.
func (s *Server) Stop(ctx context.Context) error {
	return s.do(ctx, "stop", s.stop)
}

// Close kills the server, removes its directory and gives up its port. A closed
// server's other methods return errors; closing it again returns nil.
func (s *Server) Close() error {
	<-s.turn
	defer func() { s.turn <- struct{}{} }()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.killAnyway()
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	if s.claim != nil {
		err = errors.Join(err, s.claim.Close())
	}
	if s.port != nil {
		err = errors.Join(err, s.port.release())
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", s.program.Name, err)
	}
	return nil
}

// do calls what a method does when its turn has come.
func (s *Server) do(ctx context.Context, doing string, what func(context.Context) error) error {
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("%s %s: %w", doing, s.program.Name, context.Cause(ctx))
	}
	err := errClosed
	if !s.closed {
		err = what(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, s.program.Name, err)
	}
	return nil
}

// setUp makes directory and port, and fills the directory.
func (s *Server) setUp(ctx context.Context) (err error) {
	if s.owner, err = ownerNamed(s.program.User); err != nil {
		return fmt.Errorf("start %s: %w", s.program.Name, err)
	}
	if s.port, err = reservePort(); err != nil {
		return fmt.Errorf("start %s: find a free port: %w", s.program.Name, err)
	}
	removeLeftovers()
	if s.dir, err = s.owner.makeDir(); err == nil {
		s.claim, err = claim(s.dir)
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", s.program.Name, err)
	}
	if s.program.Setup == nil {
		return nil
	}
	command, err := s.program.Setup(ctx, s.dir)
	if err == nil && command != nil {
		s.owner.own(command, s.dir)
		// A script's children end with it.
		command.SysProcAttr.Setpgid = true
		command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
		var output []byte
		if output, err = command.CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w%s", command.Path, err, quote(output))
		}
	}
	if err != nil {
		return fmt.Errorf("set up %s: %w", s.program.Name, err)
	}
	return nil
}

func (s *Server) up() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.process.gone:
		return false
	default:
		return true
	}
}

func (s *Server) start(ctx context.Context) error {
	if s.up() {
		return fmt.Errorf("it is running already, as process %d", s.process.pid())
	}
	path := filepath.Join(s.dir, logName)
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the server has its own descriptor of it
	info, err := log.Stat()
	if err != nil {
		return err
	}
	command := s.program.Command(s.dir, s.port.number)
	s.owner.own(command, s.dir)
	command.Stdout, command.Stderr = log, log
	if s.process, err = startProcess(command, s.program.Orphaned); err != nil {
		return err
	}
	if err := s.answers(ctx); err != nil {
		//nolint:contextcheck // the caller's context may be over
		return errors.Join(fmt.Errorf("%w%s", err, logFrom(path, info.Size())), s.killAnyway())
	}
	return nil
}

// answers waits until the server answers.
func (s *Server) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("it did not answer within %s", startTime))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.program.Answers(ctx, s.Addr())
		if err == nil {
			return nil
		}
		select {
		case <-s.process.gone:
			return fmt.Errorf("it ended by itself: %s", s.process.command.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (s *Server) stop(ctx context.Context) error {
	if !s.up() {
		return nil
	}
	err := s.process.signal(s.program.Shutdown)
	if err == nil {
		select {
		case <-s.process.gone:
			return nil
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	//nolint:contextcheck // the caller's context is over
	return errors.Join(fmt.Errorf("it did not end in order, and is killed: %w", err), s.killAnyway())
}

func (s *Server) kill(ctx context.Context) error {
	if s.process == nil {
		return nil
	}
	return s.process.kill(ctx)
}

func (s *Server) killAnyway() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return s.kill(ctx)
}
