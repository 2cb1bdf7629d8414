package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/assent-tm/assent/participant/remote"
)

const (
	dialTime = 5 * time.Second
	// A connection that is silent for pingAfter is asked whether it is there, and is
	// given up if it does not answer within pingTime.
	pingAfter = 15 * time.Second
	pingTime  = 10 * time.Second
)

// newHTTPClient returns a client that speaks HTTP/2, with or without TLS.
func newHTTPClient(settings *tls.Config) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	if settings != nil {
		settings = settings.Clone()
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:     (&net.Dialer{Timeout: dialTime}).DialContext,
			Protocols:       protocols,
			TLSClientConfig: settings,
			IdleConnTimeout: time.Minute,
			HTTP2:           &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTime},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func checkURL(text string, allowInsecure bool) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q is not https://host:port or http://host:port", text)
	case u.Scheme == "http" && !allowInsecure && !loopback(u.Hostname()):
		return fmt.Errorf("%q is plain http to another machine: use https, or AllowInsecure if somebody else sees to it who listens", text)
	default:
		return nil
	}
}

func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// introduce tells the server who calls, and for which trace.
func (c *Client) introduce(next connect.ClientFunc) connect.ClientFunc {
	return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
		if info, ok := connect.CallInfoForClientContext(ctx); ok {
			if c.config.Token != "" {
				info.RequestHeader().Set("Authorization", "Bearer "+c.config.Token)
			}
			if traceparent := remote.Traceparent(ctx); traceparent != "" {
				info.RequestHeader().Set("Traceparent", traceparent)
			}
		}
		return next(ctx, spec)
	}
}
