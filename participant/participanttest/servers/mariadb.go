package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// MariaDB is a MariaDB server. Its user root needs no password.
type MariaDB struct{ *Server }

// StartMariaDB starts a MariaDB server with its own defaults, so without a binary
// log. Settings are options of the server without the leading hyphens, like
// "log_bin=ON", and override what it has otherwise.
func StartMariaDB(ctx context.Context, settings ...string) (*MariaDB, error) {
	install, server, err := mariaDBPrograms()
	if err != nil {
		return nil, err
	}
	s, err := Run(ctx, Program{
		Name: "MariaDB",
		User: "mysql",
		Setup: func(ctx context.Context, dir string) (*exec.Cmd, error) {
			return exec.CommandContext(
				ctx, install, "--no-defaults", "--datadir="+filepath.Join(dir, "data"),
				"--auth-root-authentication-method=normal", "--skip-test-db",
			), nil
		},
		Command: func(dir string, port int) *exec.Cmd {
			command := exec.Command(
				server, "--no-defaults", "--datadir="+filepath.Join(dir, "data"), "--bind-address="+loopback, "--port="+strconv.Itoa(port),
				"--socket="+filepath.Join(dir, "socket"), "--pid-file="+filepath.Join(dir, "pid"),
			)
			for _, setting := range settings {
				command.Args = append(command.Args, "--"+setting)
			}
			return command
		},
		Answers:  mariaDBAnswers,
		Shutdown: syscall.SIGTERM,
		Orphaned: syscall.SIGKILL,
	})
	if err != nil {
		return nil, err
	}
	return &MariaDB{s}, nil
}

// MariaDBInstalled returns nil if StartMariaDB finds its programs, or else the error
// that it returns, which names Debian's package.
func MariaDBInstalled() error {
	_, _, err := mariaDBPrograms()
	return err
}

func mariaDBPrograms() (install, server string, err error) {
	const debian, folder = "mariadb-server", "/usr/sbin"
	if install, err = program(debian, "mariadb-install-db", folder); err != nil {
		return "", "", err
	}
	server, err = program(debian, "mariadbd", folder)
	return install, server, err
}

// DSN returns what the driver github.com/go-sql-driver/mysql needs to connect to
// the database as root; "" connects without one.
func (m *MariaDB) DSN(database string) string { return "root@tcp(" + m.Addr() + ")/" + database }

// mariaDBAnswers waits for the server's greeting, which it sends once it is able to
// serve: after recovery.
func mariaDBAnswers(ctx context.Context, addr string) error {
	return converse(ctx, addr, func(conn net.Conn) error {
		// Three bytes of length, a sequence number, and the version of the protocol or
		// the mark of an error.
		var greeting [5]byte
		if _, err := io.ReadFull(conn, greeting[:]); err != nil {
			return err
		}
		switch greeting[4] {
		case 10:
			return nil
		case 0xff:
			return errors.New("it refuses connections")
		default:
			return fmt.Errorf("this is no MariaDB server: protocol %d", greeting[4])
		}
	})
}
