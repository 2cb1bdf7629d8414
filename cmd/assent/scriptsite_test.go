package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/assent-tm/assent/cmd/assent/devbank"
	"github.com/assent-tm/assent/participant/remote"
)

// scriptSite is a server and two accounts that a script works with; $BANK_A and $BANK_B are
// where those are called:
//
//	exits CODE COMMAND...   is exec, of a command that has this exit code
//	serve [ARGUMENT...]     starts `assent serve`, or dev if that is the argument, and waits until it listens
//	end                     ends it by SIGTERM, in order; $LOG has what it printed
//	ended                   waits for that
//	signal NAME             sends it a signal
//	logged PATTERN          waits until it has printed that
//	fail BANK, mend BANK    answers commit and rollback with 503, or as it should
//	hang BANK               does not answer prepare until mend
//	asked BANK              waits until the bank is asked, and hangs
//	killed NAME             ends it by this signal, a second one
//	balance BANK AMOUNT     fails unless that is in the account
//	certificate CERT KEY    makes a certificate for 127.0.0.1 that is its own authority
//	save NAME [PATTERN]     keeps the last output in a variable, or what the pattern's group finds in it
type scriptSite struct {
	banks   map[string]*scriptBank
	program *exec.Cmd
	printed *printed
}

type scriptBank struct {
	server  *httptest.Server
	failing atomic.Bool
	mu      sync.Mutex
	hanging chan struct{} // closed by mend; nil if it does not hang
	asked   chan struct{} // takes one while it hangs
}

func (b *scriptBank) hang() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hanging, b.asked = make(chan struct{}), make(chan struct{}, 1)
}

func (b *scriptBank) mend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failing.Store(false)
	if b.hanging != nil {
		close(b.hanging)
		b.hanging = nil
	}
}

// wait returns when the bank does not hang any more, or the caller has left.
func (b *scriptBank) wait(r *http.Request) {
	b.mu.Lock()
	hanging, asked := b.hanging, b.asked
	b.mu.Unlock()
	if hanging == nil {
		return
	}
	select {
	case asked <- struct{}{}:
	default:
	}
	select {
	case <-hanging:
	case <-r.Context().Done():
	}
}

const scriptSecret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

type siteKey struct{}

// setUpSite starts the accounts, and writes the configuration of a server with them.
func setUpSite(env *testscript.Env) error {
	site := &scriptSite{banks: map[string]*scriptBank{}}
	env.Values[siteKey{}] = site
	env.Defer(site.close)
	secretFile := filepath.Join(env.WorkDir, "bank.secret")
	if err := os.WriteFile(secretFile, []byte(scriptSecret), 0o600); err != nil {
		return err
	}
	secret, err := remote.ParseSecret(scriptSecret)
	if err != nil {
		return err
	}
	var file strings.Builder
	file.WriteString("domain: orders\nlog: {path: orders.db}\napi: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n" +
		"timeouts: {commit_wait: 20s, retry_min: 1m, retry_max: 1m}\nparticipants:\n")
	for _, name := range []string{"bank_a", "bank_b"} {
		handler, err := devbank.New(name, 100).Handler(secret)
		if err != nil {
			return err
		}
		bank := &scriptBank{}
		bank.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if bank.failing.Load() && (strings.HasSuffix(r.URL.Path, "/commit") || strings.HasSuffix(r.URL.Path, "/rollback")) {
				http.Error(w, "the disk is being moved", http.StatusServiceUnavailable)
				return
			}
			if strings.HasSuffix(r.URL.Path, "/prepare") {
				body, err := io.ReadAll(r.Body) // else nobody notices that the caller has left
				if err != nil {
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				bank.wait(r)
			}
			handler.ServeHTTP(w, r)
		}))
		site.banks[name] = bank
		env.Setenv(strings.ToUpper(name), bank.server.URL+devbank.Path)
		fmt.Fprintf(&file, "  %s: {kind: http, url: '%s%s', secret_file: %s, lists: true, forgets: true}\n", name, bank.server.URL, devbank.Path, secretFile)
	}
	env.Setenv("LOG", filepath.Join(env.WorkDir, "server.log"))
	return os.WriteFile(filepath.Join(env.WorkDir, "site.yaml"), []byte(file.String()), 0o600)
}

var siteSignals = map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}

var siteCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"exits": func(ts *testscript.TestScript, _ bool, args []string) {
		err := ts.Exec(args[1], args[2:]...)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			ts.Check(err)
		}
		if got := fmt.Sprint(exit.ExitCode()); got != args[0] {
			ts.Fatalf("exit code %s, not %s", got, args[0])
		}
	},
	"serve": func(ts *testscript.TestScript, _ bool, args []string) {
		if len(args) == 0 || args[0] != "dev" {
			args = append([]string{"serve", "--config", "site.yaml"}, args...)
		}
		siteOf(ts).start(ts, args)
	},
	"end": func(ts *testscript.TestScript, _ bool, _ []string) {
		ts.Check(siteOf(ts).program.Process.Signal(syscall.SIGTERM))
		siteOf(ts).ended(ts)
	},
	"ended": func(ts *testscript.TestScript, _ bool, _ []string) { siteOf(ts).ended(ts) },
	"signal": func(ts *testscript.TestScript, _ bool, args []string) {
		ts.Check(siteOf(ts).program.Process.Signal(siteSignals[args[0]]))
	},
	"logged": func(ts *testscript.TestScript, _ bool, args []string) {
		if siteOf(ts).printed.await(regexp.MustCompile(args[0])) == nil {
			ts.Fatalf("%q was not printed: %s", args[0], siteOf(ts).printed)
		}
	},
	"fail":  func(ts *testscript.TestScript, _ bool, args []string) { siteOf(ts).banks[args[0]].failing.Store(true) },
	"mend":  func(ts *testscript.TestScript, _ bool, args []string) { siteOf(ts).banks[args[0]].mend() },
	"hang":  func(ts *testscript.TestScript, _ bool, args []string) { siteOf(ts).banks[args[0]].hang() },
	"asked": func(ts *testscript.TestScript, _ bool, args []string) { <-siteOf(ts).banks[args[0]].asked },
	"killed": func(ts *testscript.TestScript, _ bool, args []string) {
		s := siteOf(ts)
		ts.Check(s.program.Process.Signal(siteSignals[args[0]]))
		_ = s.wait()
		if s.program.ProcessState.ExitCode() != exitInterrupted {
			ts.Fatalf("the server ended by %v: %s", s.program.ProcessState, s.printed)
		}
		s.program = nil
	},
	"balance": func(ts *testscript.TestScript, _ bool, args []string) {
		response, err := http.Get(siteOf(ts).banks[args[0]].server.URL)
		ts.Check(err)
		text, err := io.ReadAll(response.Body)
		ts.Check(errors.Join(err, response.Body.Close()))
		if !strings.Contains(string(text), fmt.Sprintf(`"balance":%s,`, args[1])) {
			ts.Fatalf("%s has %s, not %s", args[0], text, args[1])
		}
	},
	"certificate": func(ts *testscript.TestScript, _ bool, args []string) {
		certificate, key, err := selfSigned()
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), certificate, 0o644))
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), key, 0o600))
	},
	"save": func(ts *testscript.TestScript, _ bool, args []string) {
		text := ts.ReadFile("stdout")
		if len(args) == 2 {
			found := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(text)
			if found == nil {
				ts.Fatalf("%q is not in %s", args[1], text)
			}
			text = found[1]
		}
		ts.Setenv(args[0], strings.TrimSpace(text))
	},
}

func siteOf(ts *testscript.TestScript) *scriptSite { return ts.Value(siteKey{}).(*scriptSite) }

// start waits for the lines that say where the server listens.
func (s *scriptSite) start(ts *testscript.TestScript, args []string) {
	self, err := os.Executable()
	ts.Check(err)
	s.program = exec.Command(self, args...)
	s.program.Dir = ts.MkAbs(".")
	s.program.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+ts.Getenv("WORK"), "ASSENT_AUTH_TOKENS_FILE="+ts.Getenv("ASSENT_AUTH_TOKENS_FILE"))
	output, write, err := os.Pipe()
	ts.Check(err)
	s.program.Stdout, s.program.Stderr = write, write
	ts.Check(s.program.Start())
	ts.Check(write.Close())
	s.printed = newPrinted(output)
	for name, variable := range map[string]string{"api": "ASSENT_SERVER", "admin": "ASSENT_ADMIN"} {
		found := s.printed.await(regexp.MustCompile("^" + name + " +(\\S+)"))
		if found == nil {
			ts.Fatalf("assent %s ended: %s", strings.Join(args, " "), s.printed)
		}
		ts.Setenv(variable, found[1])
	}
}

// ended waits for the server to end in order.
func (s *scriptSite) ended(ts *testscript.TestScript) {
	if err := s.wait(); err != nil {
		ts.Fatalf("the server ended: %v: %s", err, s.printed)
	}
	ts.Check(os.WriteFile(ts.Getenv("LOG"), []byte(s.printed.String()), 0o600))
	s.program = nil
}

func (s *scriptSite) wait() error {
	s.printed.await(nil)
	return s.program.Wait()
}

func (s *scriptSite) close() {
	if s.program != nil && s.printed != nil {
		_ = s.program.Process.Kill()
		_ = s.wait()
	}
	for _, bank := range s.banks {
		bank.mend()
		bank.server.Close()
	}
}

// printed is what a program has printed so far.
type printed struct {
	mu    sync.Mutex
	more  *sync.Cond
	lines []string
	ended bool
}

func newPrinted(from io.ReadCloser) *printed {
	p := &printed{}
	p.more = sync.NewCond(&p.mu)
	go func() {
		lines := bufio.NewScanner(from)
		for lines.Scan() {
			p.add(lines.Text(), false)
		}
		_ = from.Close()
		p.add("", true)
	}()
	return p
}

func (p *printed) add(line string, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines, p.ended = append(p.lines, line), ended
	p.more.Broadcast()
}

// await returns what the pattern finds in a line, as soon as that is printed; nil if the
// program has ended without it.
func (p *printed) await(pattern *regexp.Regexp) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for seen := 0; ; p.more.Wait() {
		for ; pattern != nil && seen < len(p.lines); seen++ {
			if found := pattern.FindStringSubmatch(p.lines[seen]); found != nil {
				return found
			}
		}
		if p.ended {
			return nil
		}
	}
}

func (p *printed) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// selfSigned returns a certificate for 127.0.0.1 and its key in PEM.
func selfSigned() (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), err
}
