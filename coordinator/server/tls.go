package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"
)

// TLSFiles names what a listener shows and asks for, in PEM.
type TLSFiles struct {
	// Certificate is the server's, with those that lead to its authority. Key is
	// its private key; others than its owner and group may not read it.
	Certificate, Key string
	// ClientCAs are the authorities of client certificates; "" for none being asked
	// for. A client need not show one unless RequireClient is set: it may have a
	// token.
	ClientCAs     string
	RequireClient bool
}

// OpenTLS reads the files and returns what Listener.TLS needs: TLS 1.2 or later,
// HTTP/2 and HTTP/1.1. Files that change are read again, for connections that are made
// a second later; one that can't be read leaves what was in force. logger gets what
// becomes of changes; nil for silence.
func OpenTLS(files TLSFiles, logger *zap.Logger) (*tls.Config, error) {
	if logger == nil {
		logger = zap.NewNop()
	}
	paths := []string{files.Certificate, files.Key}
	if files.ClientCAs != "" {
		paths = append(paths, files.ClientCAs)
	}
	f, err := newFresh(logger, files.read, paths...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		// For net/http, which wants to see a certificate.
		GetCertificate:     func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &f.get().Certificates[0], nil },
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.get(), nil },
	}, nil
}

func (files TLSFiles) read() (*tls.Config, error) {
	info, err := os.Stat(files.Key)
	if err != nil {
		return nil, fmt.Errorf("read TLS key: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read TLS key: everybody may read %s: chmod o-rwx it", files.Key)
	}
	certificate, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fmt.Errorf("read TLS certificate %s: %w", files.Certificate, err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{certificate},
	}
	if files.ClientCAs == "" {
		if files.RequireClient {
			return nil, errors.New("client certificates are required, but no authorities are given")
		}
		return config, nil
	}
	text, err := os.ReadFile(files.ClientCAs)
	if err != nil {
		return nil, fmt.Errorf("read client authorities: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read client authorities: %s holds no certificate in PEM", files.ClientCAs)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	if files.RequireClient {
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}
