package orders

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/assent-tm/assent/participant/participanttest/servers"
	"github.com/assent-tm/assent/participant/participanttest/servers/natsserver"
)

// site are the servers that the demo works with.
type site struct {
	addresses Addresses
	// own are those that the demo started, by the name of their participant.
	own map[string]*servers.Server
}

// start starts a server and returns its address.
type start func(context.Context) (*servers.Server, string, error)

// openSite starts those servers whose addresses are not given, all at once. The site is
// to be closed also after an error.
func openSite(ctx context.Context, given Addresses) (*site, error) {
	s := &site{addresses: given, own: map[string]*servers.Server{}}
	type result struct {
		name    string
		server  *servers.Server
		address string
		err     error
	}
	starts := map[string]start{postgresName: startPostgres, mariadbName: startMariaDB, natsName: startNATS}
	results := make(chan result)
	n := 0
	for name, start := range starts {
		if *s.addresses.of(name) == "" {
			n++
			go func() {
				server, address, err := start(ctx)
				results <- result{name, server, address, err}
			}()
		}
	}
	var failed []error
	for range n {
		r := <-results
		if r.server != nil {
			s.own[r.name] = r.server
		}
		*s.addresses.of(r.name) = r.address
		failed = append(failed, r.err)
	}
	return s, errors.Join(failed...)
}

func startPostgres(ctx context.Context) (*servers.Server, string, error) {
	p, err := servers.StartPostgres(ctx)
	if err != nil {
		return nil, "", err
	}
	return p.Server, p.URL("postgres"), nil
}

func startMariaDB(ctx context.Context) (*servers.Server, string, error) {
	m, err := servers.StartMariaDB(ctx)
	if err != nil {
		return nil, "", err
	}
	const database = "warehouse"
	connector, err := driver.MySQLDriver{}.OpenConnector(m.DSN(""))
	if err != nil {
		return m.Server, "", err
	}
	db := sql.OpenDB(connector)
	_, err = db.ExecContext(ctx, "CREATE DATABASE "+database)
	if err = errors.Join(err, db.Close()); err != nil {
		return m.Server, "", fmt.Errorf("create database %s: %w", database, err)
	}
	return m.Server, m.DSN(database), nil
}

func startNATS(ctx context.Context) (*servers.Server, string, error) {
	n, err := natsserver.Start(ctx)
	if err != nil {
		return nil, "", err
	}
	return n.Server, n.URL(), nil
}

// close ends the servers and removes what they kept.
func (s *site) close() (err error) {
	for _, server := range s.own {
		err = errors.Join(err, server.Close())
	}
	return err
}

// stopTime is how long servers may take to end in order.
const stopTime = 10 * time.Second

// keep ends the servers in order, and leaves what they keep. It returns the shell commands
// that serve it again, by the name of the participant.
func (s *site) keep(ctx context.Context) (again map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	again = map[string]string{}
	for name, server := range s.own {
		command, keepErr := server.Keep(ctx)
		again[name], err = command, errors.Join(err, keepErr)
	}
	return again, err
}
