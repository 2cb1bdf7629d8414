package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"github.com/stretchr/testify/require"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/coordinator/server"
)

// authority signs certificates for a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	text, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(text)
	require.NoError(t, err)
	return &authority{certificate: certificate, key: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// sign returns a certificate for a name, and its key, in PEM.
func (a *authority) sign(t *testing.T, serial int64, name string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	text, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	require.NoError(t, err)
	bytes, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: text}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: bytes})
}

func (a *authority) client(t *testing.T, name string) tls.Certificate {
	t.Helper()
	certificate, key := a.sign(t, 7, name)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(t, err)
	return pair
}

// files writes what a server reads.
func (a *authority) files(t *testing.T, dir string, serial int64) server.TLSFiles {
	t.Helper()
	files := server.TLSFiles{Certificate: filepath.Join(dir, "tls.crt"), Key: filepath.Join(dir, "tls.key"), ClientCAs: filepath.Join(dir, "ca.crt")}
	certificate, key := a.sign(t, serial, "assent.test")
	require.NoError(t, os.WriteFile(files.Key, key, 0o600))
	require.NoError(t, os.WriteFile(files.Certificate, certificate, 0o600))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
	require.NoError(t, os.WriteFile(files.ClientCAs, ca, 0o600))
	return files
}

// secure serves a site again, with TLS, and returns its URL.
func (s *site) secure(t *testing.T, config *tls.Config) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.server.Serve(ctx, server.Listener{Net: listener, TLS: config, Handler: s.server.API()})
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return "https://" + listener.Addr().String()
}

func overTLS(t *testing.T, config *tls.Config) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, Protocols: protocols}}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func begin(ctx context.Context, client *http.Client, url string) error {
	api := assentv1connect.NewTransactionServiceClient(connect.NewClient(connecthttp.NewTransport(client, url, connecthttp.WithGRPC())))
	_, err := api.Begin(ctx, &assentv1.BeginRequest{})
	return err
}

func TestClientCertificatesAreIdentities(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	path := filepath.Join(t.TempDir(), "credentials.json")
	require.NoError(t, server.WriteCredentials(path, &server.Credentials{Certificates: []server.Certificate{{SAN: "dns:orders.test", Name: "orders", Role: server.RoleClient}}}))
	auth, err := server.OpenAuth(path, nil)
	require.NoError(t, err)
	s := newSite(t, change{server: func(c *server.Config) { c.Auth = auth }})
	config, err := server.OpenTLS(ours.files(t, t.TempDir(), 1), nil)
	require.NoError(t, err)
	url := s.secure(t, config)

	require.NoError(t, begin(t.Context(), overTLS(t, &tls.Config{RootCAs: ours.pool(), Certificates: []tls.Certificate{ours.client(t, "orders.test")}}), url))
	all, err := s.dtm.List(t.Context(), allOfThem)
	require.NoError(t, err)
	require.Len(t, all, 1)
	require.Equal(t, "orders", all[0].Owner)

	unknown := begin(t.Context(), overTLS(t, &tls.Config{RootCAs: ours.pool(), Certificates: []tls.Certificate{ours.client(t, "other.test")}}), url)
	require.Equal(t, connect.CodeUnauthenticated, refused(t, unknown).code)
	none := begin(t.Context(), overTLS(t, &tls.Config{RootCAs: ours.pool()}), url)
	require.Equal(t, connect.CodeUnauthenticated, refused(t, none).code)
	// Another authority's signature is worth nothing, whatever name it is for.
	pair := others.client(t, "orders.test")
	shows := &tls.Config{RootCAs: ours.pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
	require.Error(t, begin(t.Context(), overTLS(t, shows), url))
	old := &tls.Config{RootCAs: ours.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	require.ErrorContains(t, begin(t.Context(), overTLS(t, old), url), "protocol version")
	all, err = s.dtm.List(t.Context(), allOfThem)
	require.NoError(t, err)
	require.Len(t, all, 1)
}

func TestCertificatesAreReadAgain(t *testing.T) {
	ours, dir := newAuthority(t), t.TempDir()
	config, err := server.OpenTLS(ours.files(t, dir, 1), nil)
	require.NoError(t, err)
	s := newSite(t)
	address := strings.TrimPrefix(s.secure(t, config), "https://")
	serial := func() int64 {
		c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: ours.pool()})
		require.NoError(t, err)
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	require.Equal(t, int64(1), serial())
	// Half of a rotation: what was in force stays.
	_, key := ours.sign(t, 2, "assent.test")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tls.key"), key, 0o600))
	require.Equal(t, int64(1), serial())
	ours.files(t, dir, 3)
	require.Eventually(t, func() bool { return serial() == 3 }, 30*time.Second, 50*time.Millisecond)
}

func TestTLSFilesThatAreRefused(t *testing.T) {
	ours, dir := newAuthority(t), t.TempDir()
	files := ours.files(t, dir, 1)
	_, err := server.OpenTLS(server.TLSFiles{Certificate: files.Certificate, Key: files.Key, RequireClient: true}, nil)
	require.ErrorContains(t, err, "no authorities")
	require.NoError(t, os.Chmod(files.Key, 0o644))
	_, err = server.OpenTLS(files, nil)
	require.ErrorContains(t, err, "chmod o-rwx")
	require.NoError(t, os.Chmod(files.Key, 0o600))
	require.NoError(t, os.WriteFile(files.ClientCAs, []byte("none"), 0o600))
	_, err = server.OpenTLS(files, nil)
	require.ErrorContains(t, err, "no certificate")
	require.NoError(t, os.Remove(files.Key))
	_, err = server.OpenTLS(files, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}
