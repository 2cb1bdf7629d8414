package servers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// Postgres is a PostgreSQL server. The superuser postgres needs no password.
type Postgres struct{ *Server }

// StartPostgres starts a PostgreSQL server with fsync on and room for 64 prepared
// transactions. Settings are lines of its configuration, like
// "max_prepared_transactions=8", and override what it has otherwise.
func StartPostgres(ctx context.Context, settings ...string) (*Postgres, error) {
	server, err := postgresProgram()
	if err != nil {
		return nil, err
	}
	// PATH may name one of several versions by a link: initdb must be the same one's.
	home, err := filepath.EvalSymlinks(server)
	if err != nil {
		return nil, err
	}
	s, err := Run(ctx, Program{
		Name: "PostgreSQL",
		User: "postgres",
		Setup: func(ctx context.Context, dir string) (*exec.Cmd, error) {
			return exec.CommandContext(
				ctx, filepath.Join(filepath.Dir(home), "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres",
				"-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions",
			), nil
		},
		Command: func(dir string, port int) *exec.Cmd {
			command := exec.Command(server, "-D", filepath.Join(dir, "data"))
			defaults := []string{
				"listen_addresses=" + loopback, "port=" + strconv.Itoa(port), "unix_socket_directories=" + dir,
				"fsync=on", "max_prepared_transactions=64",
				"recovery_init_sync_method=syncfs", // a start after a kill need not sync each file of each database
			}
			for _, setting := range append(defaults, settings...) {
				command.Args = append(command.Args, "-c", setting)
			}
			return command
		},
		Answers:  postgresAnswers,
		Shutdown: syscall.SIGINT,  // end the sessions and shut down
		Orphaned: syscall.SIGQUIT, // its children don't notice that it was killed while they are busy
	})
	if err != nil {
		return nil, err
	}
	return &Postgres{s}, nil
}

// PostgresInstalled returns nil if StartPostgres finds its programs, or else the error
// that it returns, which names Debian's package.
func PostgresInstalled() error {
	_, err := postgresProgram()
	return err
}

func postgresProgram() (string, error) {
	return program("postgresql-15", "postgres", "/usr/lib/postgresql/*/bin")
}

// URL returns what a client needs to connect to the database as the superuser.
func (p *Postgres) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User("postgres"), Host: p.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// maxPostgresMessage bounds a message before the session begins, in bytes.
const maxPostgresMessage = 64 << 10

// postgresAnswers begins a session: a server that recovers accepts the connection
// already, and refuses the session.
func postgresAnswers(ctx context.Context, addr string) error {
	return converse(ctx, addr, func(conn net.Conn) error {
		const version3 = 3 << 16
		startup := binary.BigEndian.AppendUint32(nil, version3)
		startup = append(startup, "user\x00postgres\x00database\x00postgres\x00\x00"...)
		message := binary.BigEndian.AppendUint32(nil, uint32(4+len(startup)))
		if _, err := conn.Write(append(message, startup...)); err != nil {
			return err
		}
		for {
			kind, body, err := readPostgresMessage(conn)
			switch {
			case err != nil:
				return err
			case kind == 'E':
				return fmt.Errorf("refused: %s", bytes.ReplaceAll(bytes.Trim(body, "\x00"), []byte{0}, []byte(" ")))
			case kind == 'Z': // ready for a query
				_, err := conn.Write([]byte{'X', 0, 0, 0, 4})
				return err
			}
		}
	})
}

func readPostgresMessage(r io.Reader) (kind byte, body []byte, err error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size < 4 || size > maxPostgresMessage {
		return 0, nil, errors.New("this is no PostgreSQL server")
	}
	body = make([]byte, size-4)
	_, err = io.ReadFull(r, body)
	return header[0], body, err
}
