package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/cmd/assent/devbank"
	"github.com/assent-tm/assent/cmd/assent/remotetx"
	"github.com/assent-tm/assent/cmd/assent/standalone"
	"github.com/assent-tm/assent/participant/remote"
)

const devPort = 7379

func devCommand() *cobra.Command {
	var port int
	var keep string
	command := &cobra.Command{
		Use:   "dev",
		Short: "run a server with two accounts to try it",
		Long: `Run a server for development, on this machine's loopback addresses only: without
authentication, its log in a temporary folder that is removed at the end. Two accounts
take part over HTTP, bank_a and bank_b, with 100 each, in memory. What to try is printed.
Ends by an interrupt.`,
		Example: `  assent dev
  assent dev --port 9000 --keep ./dev-log`,
		Args: takesNone,
		RunE: func(command *cobra.Command, _ []string) error {
			if port != 0 && (port < 1 || port > 65532) {
				return usageError{fmt.Errorf("--port %d: want 1 to 65532, or 0 for any", port)}
			}
			return inDevDir(keep, func(dir string) error { return runDev(command, port, dir) })
		},
	}
	command.Flags().IntVar(&port, "port", devPort, "`port` of the api; admin, bank_a and bank_b have the next three; 0 for any")
	command.Flags().StringVar(&keep, "keep", "", "keep the log in `dir` (default: a temporary folder, removed at the end)")
	return command
}

func inDevDir(keep string, run func(dir string) error) error {
	if keep != "" {
		if err := os.MkdirAll(keep, 0o700); err != nil {
			return usageError{fmt.Errorf("--keep: %w", err)}
		}
		return run(keep)
	}
	dir, err := os.MkdirTemp("", "assent-dev-")
	if err != nil {
		return err
	}
	return errors.Join(run(dir), os.RemoveAll(dir))
}

// devBank is an account that is served.
type devBank struct {
	name, url, secret string
	server            *http.Server
	served            chan error
}

func runDev(command *cobra.Command, port int, dir string) (err error) {
	flags := map[string]string{
		"domain": "dev", "log.path": filepath.Join(dir, "assent.db"), "logging.level": "warn",
		"api.listen": devAddress(port, 0), "admin.listen": devAddress(port, 1),
	}
	loaded, err := config.Load(config.Sources{Flags: flags})
	if err != nil {
		return err
	}
	loaded.Participants = map[string]config.Participant{}
	var banks []devBank
	for i, name := range []string{"bank_a", "bank_b"} {
		bank, err := startBank(command.Context(), name, devAddress(port, 2+i))
		if err != nil {
			return errors.Join(err, stopBanks(banks))
		}
		banks = append(banks, bank)
		loaded.Participants[name] = config.Participant{Kind: config.KindHTTP, URL: bank.url + devbank.Path, Secrets: []string{bank.secret}, Lists: true, Forgets: true}
	}
	// The banks are there until the coordinator has told them all.
	defer func() { err = errors.Join(err, stopBanks(banks)) }()
	return standalone.Run(command.Context(), standalone.Options{
		Config: loaded, Version: version(), Stderr: command.ErrOrStderr(),
		Ready: func(at standalone.Addresses) { welcome(command.OutOrStdout(), at, banks, loaded.Log.Path) },
	})
}

func devAddress(port, offset int) string {
	if port != 0 {
		port += offset
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func startBank(ctx context.Context, name, address string) (b devBank, err error) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // it never fails
	b = devBank{name: name, secret: "whsec_" + base64.StdEncoding.EncodeToString(random[:]), served: make(chan error, 1)}
	secret, err := remote.ParseSecret(b.secret)
	if err != nil {
		return b, err
	}
	handler, err := devbank.New(name, 100).Handler(secret)
	if err != nil {
		return b, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return b, fmt.Errorf("%s: %w; is another server running there? give another --port", name, err)
	}
	b.url = "http://" + listener.Addr().String()
	b.server = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { b.served <- b.server.Serve(listener) }()
	return b, nil
}

func stopBanks(banks []devBank) (err error) {
	for _, b := range banks {
		err = errors.Join(err, b.server.Close())
		if e := <-b.served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func welcome(w io.Writer, at standalone.Addresses, banks []devBank, log string) {
	fmt.Fprintf(w, `
DEVELOPMENT ONLY: nobody is asked who he is, nothing is encrypted, and all is gone at the end.

API     %s
Admin   %s
`, at.API, at.Admin)
	for _, b := range banks {
		fmt.Fprintf(w, "%-7s %s   an account with 100, in memory\n", b.name, b.url)
	}
	fmt.Fprintf(w, `Log     %s

Move 30 from one account to the other, in one transaction over both, and look at them:

%s
curl %s
curl %s

`, log, devCurl(at.API), banks[0].url, banks[1].url)
	if at.API != remotetx.DefaultServer || at.Admin != remotetx.DefaultAdmin {
		fmt.Fprintf(w, "export ASSENT_SERVER=%s ASSENT_ADMIN=%s\n", at.API, at.Admin)
	}
	fmt.Fprint(w, "assent tx list --done     assent tx watch     assent status     (an interrupt ends the server)\n")
}

// devCurl commits a transaction across both accounts.
func devCurl(api string) string {
	return `curl -H 'Content-Type: application/json' -d '{"enlistments":[{"participant":"bank_a","text":"-30"},{"participant":"bank_b","text":"30"}]}' \
  ` + api + `/assent.v1.TransactionService/Submit`
}
