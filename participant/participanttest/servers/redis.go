package servers

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Redis is a Redis server.
type Redis struct{ *Server }

// StartRedis starts a Redis server that appends every write to its file and syncs
// it before it answers, and never evicts a key. Settings are lines of its
// configuration, like "appendfsync everysec", and override what it has otherwise.
func StartRedis(ctx context.Context, settings ...string) (*Redis, error) {
	server, err := program("redis-server", "redis-server")
	if err != nil {
		return nil, err
	}
	const configuration = "redis.conf"
	s, err := Run(ctx, Program{
		Name: "Redis",
		User: "redis",
		Setup: func(_ context.Context, dir string) (*exec.Cmd, error) {
			lines := append([]string{
				"bind " + loopback, "dir .", "appendonly yes", "appendfsync always", `save ""`, "maxmemory-policy noeviction",
			}, settings...)
			return nil, os.WriteFile(filepath.Join(dir, configuration), []byte(strings.Join(lines, "\n")+"\n"), 0o644)
		},
		Command: func(_ string, port int) *exec.Cmd {
			return exec.Command(server, configuration, "--port", fmt.Sprint(port))
		},
		Answers:  redisAnswers,
		Shutdown: syscall.SIGTERM,
		Orphaned: syscall.SIGKILL,
	})
	if err != nil {
		return nil, err
	}
	return &Redis{s}, nil
}

// redisAnswers sends a PING: a server that loads its data accepts connections
// already, and answers with an error.
func redisAnswers(ctx context.Context, addr string) error {
	return converse(ctx, addr, func(conn net.Conn) error {
		if _, err := conn.Write([]byte("PING\r\n")); err != nil {
			return err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && line != "+PONG\r\n" {
			err = fmt.Errorf("answer %q", line)
		}
		return err
	})
}
