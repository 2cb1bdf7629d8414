package remote_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

const (
	serviceName = "service"
	refuseData  = participanttest.DataRefuse

	// serviceEnv makes a copy of the test's process the service; its value is the database.
	serviceEnv = "ASSENT_REMOTE_SERVICE"
	// listenerFile is the descriptor of the socket that such a process serves.
	listenerFile = 3
)

// serveIfAsked serves, in a process that is there for that, until it is killed.
func serveIfAsked() {
	path, asked := os.LookupEnv(serviceEnv)
	if !asked {
		return
	}
	if err := serveService(path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serveService(path string) error {
	db, err := openDatabase(path)
	if err != nil {
		return err
	}
	p, err := barrier.New(context.Background(), barrier.Config{
		Name: serviceName, DB: db, Dialect: barrier.SQLite, Reserve: reserve, Confirm: count("confirmed"), Cancel: count("cancelled"),
	})
	if err != nil {
		return err
	}
	h, err := remote.Handler(p, remote.HandlerConfig{Secrets: secrets()})
	if err != nil {
		return err
	}
	l, err := net.FileListener(os.NewFile(listenerFile, "listener"))
	if err != nil {
		return err
	}
	return newServer(h).Serve(l)
}

// newServer speaks both HTTP/1.1 and, without TLS, HTTP/2.
func newServer(h http.Handler) *http.Server {
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), ReadHeaderTimeout: time.Minute}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// openDatabase opens what outlives a killed process, though not a power cut.
func openDatabase(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", barrier.SQLiteDSN(path)+"&_sync=OFF")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(4)
	_, err = db.Exec(`CREATE TABLE IF NOT EXISTS effect (
		id TEXT PRIMARY KEY, reserved INT NOT NULL DEFAULT 0, confirmed INT NOT NULL DEFAULT 0, cancelled INT NOT NULL DEFAULT 0)`)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// count is a function that can run any number of times, so that a second run shows.
func count(column string) barrier.Func {
	return func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`INSERT INTO effect (id, %[1]s) VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET %[1]s = %[1]s + 1`, column), string(b.XID()))
		return err
	}
}

func reserve(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	if err := count("reserved")(ctx, tx, b); err != nil {
		return err
	}
	if string(b.Data) == refuseData {
		return barrier.Refuse("insufficient funds")
	}
	return nil
}

// killable is a service in a process of its own. Its socket is the test's, so that a
// restart has the same address.
type killable struct {
	path     string
	listener *net.TCPListener
	process  *exec.Cmd
}

func startKillable(t *testing.T) *killable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	k := &killable{path: t.TempDir() + "/service.db", listener: l.(*net.TCPListener)}
	require.NoError(t, k.start(t.Context()))
	t.Cleanup(func() { require.NoError(t, errors.Join(k.stop(), l.Close())) })
	return k
}

func (k *killable) start(ctx context.Context) error {
	socket, err := k.listener.File()
	if err != nil {
		return err
	}
	defer func() { _ = socket.Close() }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	k.process = exec.Command(self)
	k.process.Env = append(os.Environ(), serviceEnv+"="+k.path)
	k.process.ExtraFiles = []*os.File{socket}
	k.process.Stderr = os.Stderr
	if err := k.process.Start(); err != nil {
		return err
	}
	// The socket takes connections all the time: an answer is what shows that it serves.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url(), nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func (k *killable) stop() error {
	err := k.process.Process.Kill()
	_ = k.process.Wait() // ends by the signal
	return err
}

func (k *killable) restart(ctx context.Context) error {
	return errors.Join(k.stop(), k.start(ctx))
}

func (k *killable) url() string { return "http://" + k.listener.Addr().String() }

// serveHere serves a participant from this process, and returns its URL.
func serveHere(t testing.TB, p participant.Participant, cfg remote.HandlerConfig) string {
	t.Helper()
	h, err := remote.Handler(p, cfg)
	require.NoError(t, err)
	return serveHandler(t, h)
}

func serveHandler(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = newServer(h)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// quiet is for servers whose clients are expected to fail.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
