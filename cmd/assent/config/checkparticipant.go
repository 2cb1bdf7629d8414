package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

func (l *loader) checkParticipant(name string) {
	p, key := l.Participants[name], joined("participants", name)
	if err := participant.ValidName(name); err != nil {
		l.wrong(key, err.Error(), "")
		return
	}
	l.readSecrets(key, name, &p)
	l.Participants[name] = p
	switch p.Kind {
	case "":
		l.wrong(key, "kind is missing", "say http, grpc or stream")
		return
	case KindHTTP, KindGRPC:
		l.checkCalled(key, p)
	case KindStream:
		l.checkStream(key, p)
	default:
		l.oneOf(key+".kind", p.Kind, KindHTTP, KindGRPC, KindStream)
	}
	if p.MaxConnections < 0 {
		l.wrong(key+".max_connections", fmt.Sprintf("%d is negative", p.MaxConnections), "")
	}
}

// checkCalled checks a participant that this server calls.
func (l *loader) checkCalled(key string, p Participant) {
	at, err := url.Parse(p.URL)
	switch {
	case p.URL == "":
		l.wrong(key, "url is missing", "say where the participant is called, such as https://bank-a.example/assent")
		return
	case err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "":
		l.wrong(key+".url", fmt.Sprintf("%q is not a URL", p.URL), "write it as https://bank-a.example/assent")
	case at.User != nil || at.RawQuery != "" || at.Fragment != "":
		l.wrong(key+".url", "it has a name, a query or a fragment", "leave them out; calls are signed with secret_file")
	case at.Scheme == "http" && !p.AllowInsecure && !onLoopback(at.Hostname()):
		l.wrong(key+".url", "calls to another machine would not be encrypted", "use https, or say allow_insecure: true")
	}
	for _, prefix := range p.Allow {
		if _, err := netip.ParsePrefix(prefix); err != nil {
			l.wrong(key+".allow", fmt.Sprintf("%q is not a network", prefix), "write it as 10.0.0.0/8 or 2001:db8::/32")
		}
	}
	if (p.TLS.CertFile == "") != (p.TLS.KeyFile == "") {
		l.wrong(key+".tls", "cert_file and key_file belong together", "give both or neither")
	}
	if p.TLS.KeyFile != "" {
		l.notPublic(key+".tls.key_file", p.TLS.KeyFile)
	}
}

// checkStream refuses what means nothing for a participant that calls this server.
func (l *loader) checkStream(key string, p Participant) {
	for name, given := range map[string]bool{
		"url": p.URL != "", "secret_file": p.SecretFile != "", "allow": len(p.Allow) > 0, "allow_insecure": p.AllowInsecure,
		"max_connections": p.MaxConnections != 0, "tls": p.TLS != (ParticipantTLS{}),
	} {
		if given {
			l.wrong(joined(key, name), "a participant of kind stream calls this server, and is not called", "leave it out")
		}
	}
}

const makeSecret = "echo whsec_$(openssl rand -base64 32) makes one"

// maxSecretFile is more than some secrets take.
const maxSecretFile = 64 << 10

// readSecrets takes a participant's secrets from its file, or else from the environment.
func (l *loader) readSecrets(key, name string, p *Participant) {
	text, where := l.environment[secretVariable+secretSuffix(name)], secretVariable+secretSuffix(name)
	if p.SecretFile != "" {
		key += ".secret_file"
		where = p.SecretFile
		if !l.notPublic(key, p.SecretFile) {
			return
		}
		content, err := os.ReadFile(p.SecretFile)
		if err != nil {
			l.wrong(key, err.Error(), "")
			return
		}
		text = string(content)
		if strings.TrimSpace(text) == "" || len(text) > maxSecretFile {
			l.wrong(key, p.SecretFile+" holds no secret", makeSecret)
			return
		}
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if _, err := remote.ParseSecret(line); err != nil {
			l.wrong(key, fmt.Sprintf("%s: %v", where, err), makeSecret)
			return
		}
		p.Secrets = append(p.Secrets, line)
	}
}

// notPublic reports whether a secret's file can be used: everybody's secret is none.
func (l *loader) notPublic(key, path string) bool {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		l.wrong(key, "there is no file "+path, "")
	case err != nil:
		l.wrong(key, err.Error(), "")
	case info.Mode().Perm()&0o007 != 0:
		l.wrong(key, fmt.Sprintf("everybody may read %s", path), "chmod o-rwx "+path)
	default:
		return true
	}
	return false
}
