package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// kind is one of the servers there are, and how its own client writes a value and
// reads it.
type kind struct {
	need  capability.Capability
	start func(ctx context.Context, settings ...string) (*Server, error)
	write func(*Server) *exec.Cmd
	read  func(*Server) *exec.Cmd
	// misspelt is a setting that does not exist; complaint is what the server says.
	misspelt, complaint string
}

const value = "a-value-that-is-kept"

var kinds = map[string]kind{
	"postgres": {
		need: capability.Postgres,
		start: func(ctx context.Context, settings ...string) (*Server, error) {
			p, err := StartPostgres(ctx, settings...)
			if err != nil {
				return nil, err
			}
			return p.Server, nil
		},
		write: func(s *Server) *exec.Cmd {
			return psql(s, "CREATE TABLE kept(v text); INSERT INTO kept VALUES('"+value+"')")
		},
		read:     func(s *Server) *exec.Cmd { return psql(s, "SELECT v FROM kept") },
		misspelt: "fsink=on", complaint: `unrecognized configuration parameter "fsink"`,
	},
	"mariadb": {
		need: capability.MariaDB,
		start: func(ctx context.Context, settings ...string) (*Server, error) {
			m, err := StartMariaDB(ctx, settings...)
			if err != nil {
				return nil, err
			}
			return m.Server, nil
		},
		write: func(s *Server) *exec.Cmd {
			return mariadb(s, "CREATE DATABASE d; CREATE TABLE d.kept(v text) ENGINE=InnoDB; INSERT INTO d.kept VALUES('"+value+"')")
		},
		read:     func(s *Server) *exec.Cmd { return mariadb(s, "SELECT v FROM d.kept") },
		misspelt: "fsink=on", complaint: "unknown variable 'fsink=on'",
	},
	"redis": {
		need: capability.Redis,
		start: func(ctx context.Context, settings ...string) (*Server, error) {
			r, err := StartRedis(ctx, settings...)
			if err != nil {
				return nil, err
			}
			return r.Server, nil
		},
		write:    func(s *Server) *exec.Cmd { return redis(s, "SET", "kept", value) },
		read:     func(s *Server) *exec.Cmd { return redis(s, "GET", "kept") },
		misspelt: "appendsink everysec", complaint: "Bad directive",
	},
}

func psql(s *Server, statement string) *exec.Cmd {
	return exec.Command("psql", (&Postgres{s}).URL("postgres"), "-v", "ON_ERROR_STOP=1", "-c", statement)
}

func mariadb(s *Server, statement string) *exec.Cmd {
	return exec.Command("mariadb", "--no-defaults", "--protocol=tcp", "-uroot", "-h"+loopback, "-P"+fmt.Sprint(s.port.number), "-e", statement)
}

func redis(s *Server, args ...string) *exec.Cmd {
	return exec.Command("redis-cli", append([]string{"-p", fmt.Sprint(s.port.number)}, args...)...)
}

func run(t *testing.T, command *exec.Cmd) string {
	t.Helper()
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
	return string(output)
}

func started(t *testing.T, k kind, settings ...string) *Server {
	t.Helper()
	capability.Need(t, k.need)
	s, err := k.start(t.Context(), settings...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// family returns the numbers of the server's process and its descendants.
func family(t *testing.T, s *Server) []int {
	t.Helper()
	children, err := descendants(s.process.pid())
	require.NoError(t, err)
	return append(children, s.process.pid())
}

func requireDead(t *testing.T, pids []int) {
	t.Helper()
	require.NotEmpty(t, pids)
	for _, pid := range pids {
		require.True(t, state(pid).dead(), "process %d is in state %c", pid, state(pid))
	}
}

func TestServersKeepDataAndPortOverAKill(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			ctx, s := t.Context(), started(t, k)
			addr := s.Addr()
			run(t, k.write(s))
			for _, down := range []func(context.Context) error{s.Kill, s.Stop} {
				pids := family(t, s)
				require.NoError(t, down(ctx))
				requireDead(t, pids)
				_, err := net.Dial("tcp", addr)
				require.ErrorIs(t, err, syscall.ECONNREFUSED)
				require.NoError(t, down(ctx), "it is down already")

				require.NoError(t, s.Start(ctx))
				require.Equal(t, addr, s.Addr())
				require.Contains(t, run(t, k.read(s)), value)
				require.ErrorContains(t, s.Start(ctx), "it is running already")
			}
			pids := family(t, s)
			require.NoError(t, s.Restart(ctx))
			requireDead(t, pids)
			require.Contains(t, run(t, k.read(s)), value)

			pids = family(t, s)
			require.NoError(t, s.Close())
			requireDead(t, pids)
			require.NoDirExists(t, s.Dir())
			require.NoError(t, s.Close(), "it is closed already")
			for _, call := range []func(context.Context) error{s.Start, s.Restart, s.Kill, s.Stop} {
				require.ErrorIs(t, call(ctx), errClosed)
			}
		})
	}
}

// What a server does not understand is said in its own words, and nothing is left.
func TestBadSettingGivesTheServersWords(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			capability.Need(t, k.need)
			t.Setenv("TMPDIR", enterable(t))
			_, err := k.start(t.Context(), k.misspelt)
			require.ErrorContains(t, err, k.complaint)
			require.ErrorContains(t, err, "it ended by itself: exit status")
			left, err := os.ReadDir(os.TempDir())
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

func TestSettingsOverrideTheDefaults(t *testing.T) {
	s := started(t, kinds["postgres"], "max_prepared_transactions=7")
	require.Contains(t, run(t, psql(s, "SHOW max_prepared_transactions")), "7\n")
	require.Contains(t, run(t, psql(s, "SHOW fsync")), "on\n")

	s = started(t, kinds["mariadb"], "log_bin")
	require.Contains(t, run(t, mariadb(s, "SHOW VARIABLES LIKE 'log_bin'")), "ON")

	s = started(t, kinds["redis"], "appendfsync everysec")
	require.Contains(t, run(t, redis(s, "CONFIG", "GET", "appendfsync")), "everysec")
	require.Contains(t, run(t, redis(s, "CONFIG", "GET", "appendonly")), "yes")
}

// A statement that is under way ends with the server, though the child process that
// runs it is in a process group of its own.
func TestKillReachesBusyChildren(t *testing.T) {
	s := started(t, kinds["postgres"])
	client := psql(s, "SELECT pg_sleep(3600)")
	require.NoError(t, client.Start())
	busy := "SELECT 'busy=' || count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
	require.Eventually(t, func() bool { return strings.Contains(run(t, psql(s, busy)), "busy=1") }, time.Minute, time.Millisecond)
	pids := family(t, s)
	require.NoError(t, s.Kill(t.Context()))
	requireDead(t, pids)
	require.Error(t, client.Wait(), "its connection broke")
}

func TestServerDiesWithItsParent(t *testing.T) {
	capability.Need(t, capability.Postgres)
	self, err := os.Executable()
	require.NoError(t, err)
	parent := exec.Command(self)
	parent.Env = append(os.Environ(), parentEnv+"=1")
	output, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	var pid int
	var dir string
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	_, err = fmt.Sscan(line, &pid, &dir)
	require.NoError(t, err, line)
	pids, err := descendants(pid)
	require.NoError(t, err)
	require.NotEmpty(t, pids)
	pids = append(pids, pid)
	t.Cleanup(func() {
		for _, pid := range pids {
			if t.Failed() && !state(pid).dead() {
				require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			}
		}
		require.NoError(t, os.RemoveAll(dir))
	})

	require.NoError(t, parent.Process.Kill())
	require.Error(t, parent.Wait())
	for _, pid := range pids {
		require.Eventually(t, func() bool { return state(pid).dead() }, time.Minute, time.Millisecond)
	}

	require.DirExists(t, dir)
	next, err := StartPostgres(t.Context())
	require.NoError(t, err)
	require.NoDirExists(t, dir, "what is left of it is removed")
	removeLeftovers()
	require.DirExists(t, next.Dir(), "it is in use")
	require.NoError(t, next.Close())
}

// Go ends a thread when a goroutine ends that is locked to it, and with the thread
// ends, for the kernel, the parent of what it has started.
func TestServerOutlivesTheThreadThatStartedIt(t *testing.T) {
	capability.Need(t, capability.Redis)
	var s *Server
	var err error
	thread := os.Getpid()
	for thread == os.Getpid() { // the process's first thread never ends, and comes once
		var wg sync.WaitGroup
		wg.Go(func() {
			runtime.LockOSThread()
			if thread = syscall.Gettid(); thread != os.Getpid() {
				s, err = kinds["redis"].start(t.Context())
			}
		})
		wg.Wait()
	}
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.Eventually(t, func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", thread))
		return errors.Is(err, os.ErrNotExist)
	}, time.Minute, time.Millisecond)
	require.NoError(t, redisAnswers(t.Context(), s.Addr()))
}

func TestStopKillsAServerThatDoesNotEndInTime(t *testing.T) {
	s := started(t, kinds["redis"])
	pids := family(t, s)
	require.NoError(t, s.process.signal(syscall.SIGSTOP))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	err := s.Stop(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "did not end in order")
	requireDead(t, pids)
	require.NoError(t, s.Start(t.Context()))
}

// Nothing runs on if the caller does not wait for the answer.
func TestStartIsCutOff(t *testing.T) {
	s := started(t, kinds["redis"])
	require.NoError(t, s.Kill(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	s.program.Answers = func(context.Context, string) error {
		cancel()
		return errors.New("not yet")
	}
	err := s.Start(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "not yet")
	requireDead(t, []int{s.process.pid()})
}

// A server that was killed by somebody else can be started again.
func TestServerThatEndedByItself(t *testing.T) {
	s := started(t, kinds["redis"])
	require.NoError(t, syscall.Kill(s.process.pid(), syscall.SIGKILL))
	<-s.process.gone
	require.NoError(t, s.Stop(t.Context()))
	require.NoError(t, s.Start(t.Context()))
}

func TestCallsTakeTurns(t *testing.T) {
	s := started(t, kinds["redis"])
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, redisAnswers(t.Context(), s.Addr()))
}

// A server that is kept is nobody's leftover, and its command serves its data again.
func TestKeptServerIsServedAgain(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			s := started(t, k)
			run(t, k.write(s))
			again, err := s.Keep(t.Context())
			require.NoError(t, err)
			removeLeftovers()
			require.DirExists(t, s.Dir())

			// The shell outlives the signal, and waits for the server.
			command := exec.Command("/bin/sh", "-c", "trap : TERM; "+again)
			command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			require.NoError(t, command.Start())
			defer func() {
				require.NoError(t, syscall.Kill(-command.Process.Pid, syscall.SIGTERM))
				_ = command.Wait()
				require.NoError(t, os.RemoveAll(s.Dir()))
			}()
			require.Eventually(t, func() bool {
				output, err := k.read(s).CombinedOutput()
				return err == nil && strings.Contains(string(output), value)
			}, time.Minute, 50*time.Millisecond)
		})
	}
}
