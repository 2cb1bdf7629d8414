package remote

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// maxRequest and maxAnswer are how long a call and its answer may be, in bytes. The
	// longest call is a Prepare whose data takes six bytes of JSON for each of its own.
	maxRequest = 64 << 10
	maxAnswer  = 64 << 10
	// maxList is how long the answer to List may be: room for some 200,000 prepared
	// branches, twice what a coordinator lets a participant have undelivered.
	maxList = 16 << 20
	// maxForget is how many branches one call forgets, so that it fits into maxRequest.
	maxForget = 256
	// maxHeaders bounds the headers of an answer, in bytes.
	maxHeaders = 64 << 10

	// DefaultMaxConns is HTTPConfig.MaxConns, and GRPCConfig.MaxCalls, if it is zero: as many
	// as a coordinator makes calls of one participant at a time.
	DefaultMaxConns = 256

	// idleTime is how long a connection is kept that nobody uses. A service that closes
	// it earlier costs a call a second attempt.
	idleTime = 90 * time.Second
	// pingAfter and pingTime find out that a connection with many calls on it is dead:
	// unlike one that has a single call, it is not closed when that call's time is up.
	pingAfter = 10 * time.Second
	pingTime  = 10 * time.Second
)

// site says where a service is and how it is reached.
type site struct {
	kind, name, url string
	secrets         []Secret
	tls             *tls.Config
	allow           []netip.Prefix
	insecure        bool
	maxConns        int
	protocols       func(secure bool) *http.Protocols
	resolver        *net.Resolver // nil is the system's
}

// invalid says what is wrong with a site.
func (s *site) invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s %q: %w", participant.ErrInvalidParticipant, s.kind, s.name, fmt.Errorf(format, args...))
}

// wire returns the way to the service. It connects to nothing yet.
func (s *site) wire() (*wire, error) {
	if err := participant.ValidName(s.name); err != nil {
		return nil, err
	}
	base, err := s.base()
	if err != nil {
		return nil, err
	}
	if err := validSecrets(s.secrets); err != nil {
		return nil, s.invalid("Secrets: %w", err)
	}
	for _, prefix := range s.allow {
		if !prefix.IsValid() {
			return nil, s.invalid("AllowPrefixes: one of them is none")
		}
	}
	secure := base.Scheme == "https"
	g := &guard{allow: s.allow, loopbackOnly: !secure && !s.insecure}
	// A literal address is as good as checked now.
	if addr, err := netip.ParseAddr(base.Hostname()); err == nil {
		if err := g.check(addr); err != nil {
			return nil, s.invalid("URL: %w", err)
		}
	}
	dialer := &net.Dialer{ControlContext: g.control, Resolver: s.resolver}
	return &wire{base: base, secrets: s.secrets, transport: &http.Transport{
		Proxy:                  nil, // whoever sets the environment would see the calls
		DialContext:            dialer.DialContext,
		TLSClientConfig:        s.tlsConfig(secure),
		TLSHandshakeTimeout:    10 * time.Second,
		DisableCompression:     true, // no answer is long, but one that is made to be
		MaxConnsPerHost:        s.maxConns,
		MaxIdleConnsPerHost:    s.maxConns,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHeaders,
		Protocols:              s.protocols(secure),
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTime},
	}}, nil
}

// base returns the service's URL if it is one that calls may go to.
func (s *site) base() (*url.URL, error) {
	base, err := url.Parse(s.url)
	switch {
	case err != nil:
		// Its text holds the URL, which may hold a password.
		return nil, s.invalid("URL is none: want https://host:port/path")
	case base.User != nil:
		return nil, s.invalid("URL has a user or password: use Secrets or TLS")
	case base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" || base.Opaque != "":
		return nil, s.invalid("URL %q is not https://host:port/path", s.url)
	case base.RawQuery != "" || base.Fragment != "" || base.ForceQuery:
		return nil, s.invalid("URL %q has a query or a fragment", s.url)
	}
	if base.Scheme == "https" {
		if s.tls != nil && s.tls.InsecureSkipVerify && !s.insecure {
			return nil, s.invalid("TLS.InsecureSkipVerify takes anybody for the service: set TLS.RootCAs, or AllowInsecure")
		}
		return base, nil
	}
	if s.tls != nil {
		return nil, s.invalid("TLS is set and URL %q is not https", s.url)
	}
	addr, err := netip.ParseAddr(base.Hostname())
	if local := base.Hostname() == "localhost" || err == nil && addr.Unmap().IsLoopback(); !local && !s.insecure {
		return nil, s.invalid("URL %q is not encrypted and not of this machine: use https, or AllowInsecure", s.url)
	}
	return base, nil
}

func (s *site) tlsConfig(secure bool) *tls.Config {
	if !secure {
		return nil
	}
	config := &tls.Config{}
	if s.tls != nil {
		config = s.tls.Clone()
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return config
}

// wire is the way to one service: its connections, and what every call gets. Safe for
// concurrent use.
type wire struct {
	base      *url.URL
	secrets   []Secret
	transport *http.Transport
	// places bounds the calls that Do makes at a time; nil if connections do. HTTP/2 opens
	// as many as the service makes necessary by how few calls it allows on each.
	places chan struct{}
}

type callIDKey struct{}

// withCallID gives calls made with the context their id.
func withCallID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, callIDKey{}, id)
}

// Do makes a call whose body was not read yet. It is connecthttp.HTTPClient.
func (w *wire) Do(request *http.Request) (*http.Response, error) {
	ctx := request.Context()
	select {
	case w.places <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	leave := sync.OnceFunc(func() { <-w.places })
	response, err := w.sendUnread(request)
	if err != nil {
		leave()
		return nil, err
	}
	response.Body = &placed{response.Body, leave}
	return response, nil
}

// placed is the body of an answer to a call that has a place until it is closed.
type placed struct {
	io.ReadCloser
	leave func()
}

func (p *placed) Close() error {
	defer p.leave()
	return p.ReadCloser.Close()
}

func (w *wire) sendUnread(request *http.Request) (*http.Response, error) {
	if len(w.secrets) == 0 {
		return w.send(request, nil)
	}
	body, err := readBody(request.Body, request.ContentLength, maxRequest)
	if err = errors.Join(err, request.Body.Close()); err != nil {
		return nil, fmt.Errorf("sign the call: %w", err)
	}
	setBody(request, body)
	return w.send(request, body)
}

// send makes a call with this body: it adds the traceparent and the signature. It follows
// no redirect, and returns an error for every status but 200.
func (w *wire) send(request *http.Request, body []byte) (*http.Response, error) {
	ctx := request.Context()
	if traceparent := Traceparent(ctx); traceparent != "" {
		request.Header["Traceparent"] = []string{traceparent}
	}
	if len(w.secrets) > 0 {
		id, _ := ctx.Value(callIDKey{}).(string)
		sign(request.Header, w.secrets, id, time.Now(), body)
	}
	// No value: every call may come twice, so the transport may try again on another
	// connection when the one it took was just closed; and the service gets no such header.
	request.Header["Idempotency-Key"] = nil
	response, err := w.transport.RoundTrip(request)
	if err != nil {
		return nil, explained(err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, readStatus(response)
	}
	return response, nil
}

func setBody(request *http.Request, body []byte) {
	request.ContentLength = int64(len(body))
	request.Body = io.NopCloser(bytes.NewReader(body))
	request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
}

// close gives up the connections that nobody uses.
func (w *wire) close() error {
	w.transport.CloseIdleConnections()
	return nil
}

// errTooLong says that a body goes on beyond its limit.
var errTooLong = errors.New("the body is too long")

// readBody reads a body to its end, or fails with errTooLong. length is how long it is said
// to be; negative for unknown.
func readBody(body io.Reader, length, limit int64) ([]byte, error) {
	if length > limit {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", errTooLong, length, limit)
	}
	var read bytes.Buffer
	if length > 0 {
		read.Grow(int(length) + bytes.MinRead) // so that its end is met without growing
	}
	if n, err := read.ReadFrom(io.LimitReader(body, limit+1)); err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	} else if n > limit {
		return nil, fmt.Errorf("%w: limit %d bytes", errTooLong, limit)
	}
	return read.Bytes(), nil
}
