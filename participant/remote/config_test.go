package remote_test

import (
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

func TestConfigurationsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		cfg  remote.HTTPConfig
		want string
	}{
		{remote.HTTPConfig{Name: "a b", URL: "https://bank.example"}, `name "a b"`},
		{remote.HTTPConfig{URL: ""}, "is not https://host:port/path"},
		{remote.HTTPConfig{URL: "bank.example:80"}, "https://host:port/path"},
		{remote.HTTPConfig{URL: "ftp://bank.example"}, "is not https://host:port/path"},
		{remote.HTTPConfig{URL: "https://"}, "is not https://host:port/path"},
		{remote.HTTPConfig{URL: "https://a b"}, "https://host:port/path"},
		{remote.HTTPConfig{URL: "https://me:hunter2@bank.example"}, "has a user or password"},
		{remote.HTTPConfig{URL: "https://bank.example/?a=1"}, "query"},
		{remote.HTTPConfig{URL: "https://bank.example/#a"}, "fragment"},
		{remote.HTTPConfig{URL: "http://bank.example"}, "use https, or AllowInsecure"},
		{remote.HTTPConfig{URL: "http://10.0.0.1"}, "use https, or AllowInsecure"},
		{remote.HTTPConfig{URL: "https://169.254.169.254/latest"}, "never connected to"},
		{remote.HTTPConfig{URL: "http://[fe80::1]", AllowInsecure: true}, "never connected to"},
		{remote.HTTPConfig{URL: "https://10.0.0.1", AllowPrefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}, "none of AllowPrefixes"},
		{remote.HTTPConfig{URL: "https://bank.example", AllowPrefixes: make([]netip.Prefix, 1)}, "AllowPrefixes"},
		{remote.HTTPConfig{URL: "https://bank.example", Secrets: make([]remote.Secret, 1)}, "ParseSecret"},
		{remote.HTTPConfig{URL: "https://bank.example", Secrets: make([]remote.Secret, 9)}, "9 secrets, limit 8"},
		{remote.HTTPConfig{URL: "https://bank.example", TLS: &tls.Config{InsecureSkipVerify: true}}, "InsecureSkipVerify"},
		{remote.HTTPConfig{URL: "http://localhost", TLS: &tls.Config{}}, "TLS is set"},
		{remote.HTTPConfig{URL: "https://bank.example", MaxConns: -1}, "MaxConns"},
	} {
		if c.cfg.Name == "" {
			c.cfg.Name = "bank"
		}
		_, err := remote.NewHTTP(c.cfg)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant, c.cfg.URL)
		require.ErrorContains(t, err, c.want, c.cfg.URL)
		require.NotContains(t, err.Error(), "hunter2")
		if c.cfg.MaxConns == 0 {
			_, err = remote.NewGRPC(remote.GRPCConfig{
				Name: c.cfg.Name, URL: c.cfg.URL, Secrets: c.cfg.Secrets, TLS: c.cfg.TLS, AllowPrefixes: c.cfg.AllowPrefixes, AllowInsecure: c.cfg.AllowInsecure,
			})
			require.ErrorIs(t, err, participant.ErrInvalidParticipant, c.cfg.URL)
			require.ErrorContains(t, err, c.want, c.cfg.URL)
		}
	}
	for _, url := range []string{"https://bank.example", "https://bank.example:8443/assent/", "http://localhost:80", "http://127.0.0.9", "http://[::1]:1"} {
		p, err := remote.NewHTTP(remote.HTTPConfig{Name: "bank", URL: url})
		require.NoError(t, err, url)
		require.Equal(t, "bank", p.Name())
	}
}

func TestMaxCallsIsNotNegative(t *testing.T) {
	_, err := remote.NewGRPC(remote.GRPCConfig{Name: "bank", URL: "https://bank.example", MaxCalls: -1})
	require.ErrorIs(t, err, participant.ErrInvalidParticipant)
	require.ErrorContains(t, err, "MaxCalls")
}

func TestOptionalInterfacesAreThoseConfigured(t *testing.T) {
	for _, lists := range []bool{false, true} {
		for _, forgets := range []bool{false, true} {
			h, err := remote.NewHTTP(remote.HTTPConfig{Name: "bank", URL: "https://bank.example", Lists: lists, Forgets: forgets})
			require.NoError(t, err)
			g, err := remote.NewGRPC(remote.GRPCConfig{Name: "bank", URL: "https://bank.example", Lists: lists, Forgets: forgets})
			require.NoError(t, err)
			for _, p := range []remote.Participant{h, g} {
				reg, _, err := new(participant.Registry).Register(p)
				require.NoError(t, err)
				require.Equal(t, lists, reg.Lister != nil)
				require.Equal(t, forgets, reg.Forgetter != nil)
			}
		}
	}
}

func TestHandlersThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		cfg  remote.HandlerConfig
		want string
	}{
		{remote.HandlerConfig{}, "anybody could commit"},
		{remote.HandlerConfig{Secrets: secrets(), Unsigned: true}, "either signed or not"},
		{remote.HandlerConfig{Secrets: make([]remote.Secret, 1)}, "ParseSecret"},
		{remote.HandlerConfig{Secrets: secrets(), Tolerance: -time.Second}, "negative"},
	} {
		_, err := remote.Handler(&answering{}, c.cfg)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant)
		require.ErrorContains(t, err, c.want)
		require.False(t, strings.Contains(err.Error(), "MfKQ"))
	}
	_, err := remote.Handler(nil, remote.HandlerConfig{Unsigned: true})
	require.ErrorIs(t, err, participant.ErrInvalidParticipant)
}
