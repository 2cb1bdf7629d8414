package config

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
)

// check finds what is wrong with the values, one by one and together.
func (l *loader) check() {
	if l.Domain == "" {
		l.wrong("domain", "it is missing", "name this installation in the file of --config, or with --domain: it is part of every XID, and stays the same for ever")
	} else if err := participant.ValidDomain(l.Domain); err != nil {
		l.wrong("domain", strings.TrimPrefix(err.Error(), "domain "), "")
	}
	l.checkLog()
	l.checkListener("api", l.API.Listen, l.API.TLS)
	l.checkListener("admin", l.Admin.Listen, l.Admin.TLS)
	l.checkExposure()
	if l.Auth.TokensFile != "" {
		if _, err := server.ReadCredentials(l.Auth.TokensFile); err != nil {
			l.wrong("auth.tokens_file", err.Error(), "'assent token create' makes it")
		}
	}
	l.checkLimits()
	l.checkTimeouts()
	l.oneOf("logging.level", l.Logging.Level, "debug", "info", "warn", "error")
	l.oneOf("logging.format", l.Logging.Format, "console", "json")
	for _, name := range slices.Sorted(maps.Keys(l.Participants)) {
		l.checkParticipant(name)
	}
}

func (l *loader) oneOf(key, value string, words ...string) {
	if !slices.Contains(words, value) {
		l.wrong(key, fmt.Sprintf("%q is none of %s", value, strings.Join(words, ", ")), "")
	}
}

func (l *loader) checkLog() {
	if l.Log.Path == "" {
		l.wrong("log.path", "it is empty", "name the file of the recovery log")
		return
	}
	dir := filepath.Dir(l.Log.Path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		l.wrong("log.path", fmt.Sprintf("there is no directory %s", dir), "make it, on a disk that does what fsync says")
		return
	}
	if info, err := os.Stat(l.Log.Path); err == nil && info.IsDir() {
		l.wrong("log.path", fmt.Sprintf("%s is a directory", l.Log.Path), "name a file in it")
	}
}

func (l *loader) checkListener(key, listen string, tls TLS) {
	if _, port, err := net.SplitHostPort(listen); err != nil {
		l.wrong(key+".listen", err.Error(), "write it as 127.0.0.1:7379 or [::1]:7379")
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		l.wrong(key+".listen", fmt.Sprintf("%q is not a port", port), "give one of 1 to 65535; 0 takes any")
	}
	if !tls.Given() {
		return
	}
	if tls.CertFile == "" || tls.KeyFile == "" {
		l.wrong(key+".tls", "cert_file and key_file belong together", "give both, or no tls")
		return
	}
	if _, err := server.OpenTLS(tls.Files(), nil); err != nil {
		l.wrong(key+".tls", err.Error(), "")
	}
}

// checkExposure refuses listeners at which anybody in the network could decide
// transactions.
func (l *loader) checkExposure() {
	if l.API.AllowInsecure {
		return
	}
	for _, listener := range []struct {
		key, listen string
		tls         TLS
	}{{"api", l.API.Listen, l.API.TLS}, {"admin", l.Admin.Listen, l.Admin.TLS}} {
		host, _, err := net.SplitHostPort(listener.listen)
		if err != nil || onLoopback(host) {
			continue
		}
		if !listener.tls.Given() {
			l.wrong(listener.key+".listen", listener.listen+" is not a loopback address, and there is no TLS", "give "+listener.key+".tls, or listen on 127.0.0.1")
		} else if l.Auth.TokensFile == "" {
			l.wrong(listener.key+".listen", listener.listen+" is not a loopback address, and nobody is asked who he is", "give auth.tokens_file, or listen on 127.0.0.1")
		}
	}
}

func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (l *loader) checkLimits() {
	for _, s := range Settings(&l.Config) {
		if n, ok := s.value.Interface().(int); ok && (n < 0 || n == 0 && s.Key != "limits.open_per_owner") {
			l.wrong(s.Key, fmt.Sprintf("%d is not above 0", n), "leave the key out for the default")
		}
	}
}

func (l *loader) checkTimeouts() {
	for _, s := range Settings(&l.Config) {
		d, ok := s.value.Interface().(time.Duration)
		if ok && (d < 0 || d == 0 && s.Key != "timeouts.commit_wait") {
			l.wrong(s.Key, fmt.Sprintf("%s is not above 0", d), "leave the key out for the default")
		}
	}
	t := l.Timeouts
	if t.RetryMax < t.RetryMin {
		l.wrong("timeouts.retry_max", fmt.Sprintf("%s is below timeouts.retry_min, %s", t.RetryMax, t.RetryMin), "")
	}
	if t.MaxTransaction < t.Transaction {
		l.wrong("timeouts.max_transaction", fmt.Sprintf("%s is below timeouts.transaction, %s", t.MaxTransaction, t.Transaction), "")
	}
	if t.Retention/10 < t.Call {
		l.wrong("timeouts.retention", fmt.Sprintf("%s is below 10 times timeouts.call, %s: a late answer could meet a forgotten outcome", t.Retention, t.Call), "give more")
	}
}
