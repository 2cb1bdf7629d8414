// Package natsserver starts private NATS servers with JetStream, as package servers
// starts others. The server is linked in: its process is the calling program once
// more, so that it can be killed without its caller. That program has to call
// [Main] first of all.
package natsserver

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/assent-tm/assent/participant/participanttest/servers"
)

const (
	// serveEnv is the environment variable that makes Main serve.
	serveEnv      = "ASSENT_SERVE_NATS"
	configuration = "nats.conf"
	// answerTime bounds one question to a server that is starting.
	answerTime = 5 * time.Second
)

// NATS is a NATS server.
type NATS struct{ *servers.Server }

// Main serves, and does not return, if Start made this process for that; it returns
// at once in any other. The program's main or TestMain calls it before anything else.
func Main() {
	if os.Getenv(serveEnv) == "" {
		return
	}
	flags := flag.NewFlagSet("nats", flag.ExitOnError)
	options, err := server.ConfigureOptions(flags, os.Args[1:], server.PrintServerAndExit, flags.Usage, server.PrintTLSHelpAndDie)
	if err != nil {
		server.PrintAndDie(err.Error())
	}
	s, err := server.NewServer(options)
	if err != nil {
		server.PrintAndDie(err.Error())
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	os.Exit(0)
}

// Start starts a NATS server with JetStream that syncs every message to the disk
// before it acknowledges it. Settings are lines of its configuration, like
// "max_payload: 4096", and override what it has otherwise: "jetstream {}" syncs
// every two minutes. Start fails if the program does not call [Main].
func Start(ctx context.Context, settings ...string) (*NATS, error) {
	if os.Getenv(serveEnv) != "" {
		return nil, errors.New("start NATS: this process is to be the server: main or TestMain must call natsserver.Main first")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	s, err := servers.Run(ctx, servers.Program{
		Name: "NATS",
		Setup: func(_ context.Context, dir string) (*exec.Cmd, error) {
			lines := append([]string{"store_dir: data", "jetstream { sync_interval: always }"}, settings...)
			return nil, os.WriteFile(filepath.Join(dir, configuration), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
		},
		Command: func(_ string, port int) *exec.Cmd {
			command := exec.Command(self, "-c", configuration, "-a", "127.0.0.1", "-p", fmt.Sprint(port))
			command.Env = append(os.Environ(), serveEnv+"=1")
			return command
		},
		Answers:  answers,
		Shutdown: syscall.SIGTERM,
		Orphaned: syscall.SIGKILL,
	})
	if err != nil {
		return nil, err
	}
	return &NATS{s}, nil
}

// URL returns what a client needs to connect.
func (n *NATS) URL() string { return "nats://" + n.Addr() }

// answers reads the server's greeting, and asks for an answer to a client that is
// connected. The server listens once JetStream has read its data.
func answers(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // all is said
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte("CONNECT {\"verbose\":false}\r\nPING\r\n")); err != nil {
		return err
	}
	for lines := bufio.NewReader(conn); ; {
		line, err := lines.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "-ERR"):
			return fmt.Errorf("answer %q", line)
		case strings.HasPrefix(line, "PONG"):
			return nil
		}
	}
}
