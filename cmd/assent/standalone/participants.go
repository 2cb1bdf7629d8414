package standalone

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// participants makes those that the configuration names.
func (s *site) participants() (list []participant.Participant, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.config.Participants)) {
		p, err := s.participant(name, s.config.Participants[name])
		if err != nil {
			return nil, fmt.Errorf("%s: participants.%s: %w", s.config.Origin("participants."+name), name, err)
		}
		list = append(list, p)
	}
	return list, nil
}

func (s *site) participant(name string, c config.Participant) (participant.Participant, error) {
	if c.Kind == config.KindStream {
		return s.hub.Participant(name, c.Lists, c.Forgets)
	}
	var secrets []remote.Secret
	for _, text := range c.Secrets {
		secret, err := remote.ParseSecret(text)
		if err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	var allow []netip.Prefix
	for _, text := range c.Allow {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		allow = append(allow, prefix)
	}
	verify, err := ClientTLS(c.TLS)
	if err != nil {
		return nil, err
	}
	if c.Kind == config.KindGRPC {
		return remote.NewGRPC(remote.GRPCConfig{
			Name: name, URL: c.URL, Secrets: secrets, TLS: verify, AllowPrefixes: allow, AllowInsecure: c.AllowInsecure, Lists: c.Lists, Forgets: c.Forgets,
		})
	}
	return remote.NewHTTP(remote.HTTPConfig{
		Name: name, URL: c.URL, Secrets: secrets, TLS: verify, AllowPrefixes: allow, AllowInsecure: c.AllowInsecure, MaxConns: c.MaxConnections,
		Lists: c.Lists, Forgets: c.Forgets,
	})
}

// ClientTLS returns how a participant is verified; nil for what the system trusts.
func ClientTLS(c config.ParticipantTLS) (*tls.Config, error) {
	if c == (config.ParticipantTLS{}) {
		return nil, nil
	}
	verify := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		verify.RootCAs = x509.NewCertPool()
		if !verify.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		own, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file and tls.key_file: %w", err)
		}
		verify.Certificates = []tls.Certificate{own}
	}
	return verify, nil
}

// kinds says how each is reached, as status shows it.
func (s *site) kinds() map[string]string {
	kinds := map[string]string{}
	for name, p := range s.config.Participants {
		kinds[name] = p.Kind
	}
	return kinds
}
