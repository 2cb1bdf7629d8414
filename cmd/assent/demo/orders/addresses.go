package orders

import (
	"errors"
	"fmt"
	"net/url"

	driver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
)

// Addresses are those of the servers, with passwords.
type Addresses struct {
	Postgres string `json:"postgres"` // a URL
	MySQL    string `json:"mysql"`    // a data source name of the driver github.com/go-sql-driver/mysql
	NATS     string `json:"nats"`     // a URL
}

// of returns the address of a participant's server.
func (a *Addresses) of(name string) *string {
	switch name {
	case postgresName:
		return &a.Postgres
	case mariadbName:
		return &a.MySQL
	default:
		return &a.NATS
	}
}

// shown returns a server's address without the password.
func (a *Addresses) shown(name string) string {
	if name == mariadbName {
		parsed, err := driver.ParseDSN(a.MySQL)
		if err != nil {
			return unreadable
		}
		if parsed.Passwd != "" {
			parsed.Passwd = hidden
		}
		return parsed.FormatDSN()
	}
	parsed, err := url.Parse(*a.of(name))
	if err != nil || parsed.Host == "" { // a keyword string, which PostgreSQL takes, too
		return unreadable
	}
	return parsed.Redacted()
}

const (
	// hidden stands for a password, as url.URL.Redacted has it.
	hidden     = "xxxxx"
	unreadable = "the address given"
)

// Check returns what is wrong with the addresses that are given, without connecting. Its
// errors name the flag and hide passwords.
func (a *Addresses) Check() error {
	if a.Postgres != "" {
		if _, err := pgx.ParseConfig(a.Postgres); err != nil {
			return fmt.Errorf("--postgres: %w", err)
		}
	}
	if a.MySQL != "" {
		switch parsed, err := driver.ParseDSN(a.MySQL); {
		case err != nil:
			return fmt.Errorf("--mysql: %w", err)
		case parsed.DBName == "":
			return errors.New("--mysql: it names no database: want user:password@tcp(host)/database")
		}
	}
	if a.NATS != "" {
		// The error of url.Parse would show the password.
		if parsed, err := url.Parse(a.NATS); err != nil || parsed.Host == "" {
			return errors.New("--nats: it is no URL: want nats://user:password@host:4222")
		}
	}
	return nil
}
