// Package remotetx does what the commands do that talk to a running server: makes
// transactions, shows them, and passes an operator's word on.
package remotetx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
)

// Defaults of Options: where `assent dev` and a server without other settings listen.
const (
	DefaultServer  = "http://127.0.0.1:7379"
	DefaultAdmin   = "http://127.0.0.1:7380"
	DefaultTimeout = 30 * time.Second
)

// Options say which server, and who asks.
type Options struct {
	// Server and Admin are the URLs of its two listeners.
	Server, Admin string
	// Token is the bearer token; TokenFile has it if Token is empty.
	Token, TokenFile string
	// CA is a file of certificates that sign the server's; Cert and Key are files with
	// the caller's own.
	CA, Cert, Key string
	// Timeout bounds each call.
	Timeout time.Duration
}

// Server is a server that can be asked. Close it after use.
type Server struct {
	Transactions assentv1connect.TransactionServiceClient
	Admin        assentv1connect.AdminServiceClient

	timeout time.Duration
	http    *http.Client
}

// BadOption says that the options can't be used: nothing was sent.
type BadOption struct{ error }

func (e BadOption) Unwrap() error { return e.error }

// Dial makes ready to ask a server. It sends nothing: the first call finds out whether
// a server is there. Errors are a BadOption.
func Dial(o Options) (*Server, error) {
	if o.Timeout <= 0 {
		return nil, BadOption{fmt.Errorf("--timeout %s: want more than 0", o.Timeout)}
	}
	token, err := o.token()
	if err != nil {
		return nil, BadOption{err}
	}
	for flag, text := range map[string]string{"--server": o.Server, "--admin": o.Admin} {
		if err := checkURL(flag, text, token != ""); err != nil {
			return nil, BadOption{err}
		}
	}
	config, err := o.tls()
	if err != nil {
		return nil, BadOption{err}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	s := &Server{timeout: o.Timeout, http: &http.Client{
		Transport: transport,
		// The token is for the server that was named, and no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	client := func(at string) *connect.Client {
		return connect.NewClient(connecthttp.NewTransport(s.http, at), asking(token))
	}
	s.Transactions = assentv1connect.NewTransactionServiceClient(client(o.Server))
	s.Admin = assentv1connect.NewAdminServiceClient(client(o.Admin))
	return s, nil
}

// Close gives connections up.
func (s *Server) Close() { s.http.CloseIdleConnections() }

func (o Options) token() (string, error) {
	if o.Token != "" || o.TokenFile == "" {
		return o.Token, nil
	}
	text, err := os.ReadFile(o.TokenFile)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || strings.ContainsAny(token, " \t\r\n") {
		return "", fmt.Errorf("--token-file %s: want one token, on a line of its own", o.TokenFile)
	}
	return token, nil
}

// checkURL also keeps a token from being sent in the clear.
func checkURL(flag, text string, token bool) error {
	at, err := url.Parse(text)
	switch {
	case err != nil, at.Scheme != "http" && at.Scheme != "https" || at.Host == "":
		return fmt.Errorf("%s %q: want a URL such as %s or https://assent.example:7379", flag, text, DefaultServer)
	case at.User != nil:
		return fmt.Errorf("%s: no name and password in the URL: give a token with --token-file", flag)
	case token && at.Scheme == "http" && !loopback(at.Hostname()):
		return fmt.Errorf("%s %s: the token would be sent in the clear: use https, or a tunnel to this machine", flag, text)
	default:
		return nil
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (o Options) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		certificates, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(certificates) {
			return nil, fmt.Errorf("--ca %s: want certificates in PEM", o.CA)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("--cert and --key: want both or neither")
	}
	if o.Cert != "" {
		own, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
}

// asking adds to each call who asks.
func asking(token string) connect.ClientInterceptor {
	return func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			if info, ok := connect.CallInfoForClientContext(ctx); ok && token != "" {
				info.RequestHeader().Set("Authorization", "Bearer "+token)
			}
			return next(ctx, spec)
		}
	}
}

// Ask makes one call, for as long as the timeout allows. Errors are an *Error.
func Ask[Request, Response any](ctx context.Context, s *Server, call func(context.Context, *Request) (*Response, error), request *Request) (*Response, error) {
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	response, err := call(bounded, request)
	if err != nil {
		return nil, s.explain(err)
	}
	return response, nil
}

// AskOutcome is Ask for calls that decide. Where the request may have arrived and no
// answer came, the error is Pending: the outcome is unknown. again says how to ask
// for it.
func AskOutcome[Request, Response any](ctx context.Context, s *Server, call func(context.Context, *Request) (*Response, error), request *Request, again string) (*Response, error) {
	response, err := Ask(ctx, s, call, request)
	var failed *Error
	if errors.As(err, &failed) && (failed.Kind == Pending || failed.Kind == Unreachable && failed.sent()) {
		failed.Kind = Pending
		failed.Message = fmt.Sprintf("outcome unknown: %s; never do the work again, but ask: %s", failed.Message, again)
	}
	return response, err
}
