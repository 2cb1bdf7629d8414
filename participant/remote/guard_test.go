package remote

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

func TestAddressesThatAreNeverConnectedTo(t *testing.T) {
	everywhere := &guard{allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	for _, g := range []*guard{{}, everywhere} {
		for _, address := range []string{
			"169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "::a9fe:a9fe",
			"fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
			"0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1", "fec0::1",
		} {
			err := g.control(t.Context(), "tcp", net.JoinHostPort(address, "80"), nil)
			require.ErrorIs(t, err, participant.ErrConfig, address)
			require.ErrorContains(t, err, "never connected to", address)
		}
		for _, address := range []string{"127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd12::1", "::ffff:10.0.0.1", "64:ff9b::808:808"} {
			require.NoError(t, g.control(t.Context(), "tcp", net.JoinHostPort(address, "80"), nil), address)
		}
	}
	require.ErrorIs(t, everywhere.control(t.Context(), "tcp", "name:80", nil), participant.ErrConfig)
}

func TestAddressesOutsideOfWhatIsAllowed(t *testing.T) {
	g := &guard{allow: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd12::/16")}}
	for address, ok := range map[string]bool{
		"10.1.2.3": true, "::ffff:10.1.2.3": true, "fd12::1": true, "10.2.0.1": false, "127.0.0.1": false, "fd13::1": false,
	} {
		err := g.check(netip.MustParseAddr(address))
		require.Equal(t, ok, err == nil, "%s: %v", address, err)
		if !ok {
			require.ErrorContains(t, err, "AllowPrefixes")
		}
	}
	local := &guard{loopbackOnly: true}
	require.NoError(t, local.check(netip.MustParseAddr("127.9.9.9")))
	require.NoError(t, local.check(netip.MustParseAddr("::1")))
	require.ErrorContains(t, local.check(netip.MustParseAddr("10.0.0.1")), "not encrypted")
}

// names answers every question for an IPv4 address with the one it holds.
type names struct{ address atomic.Pointer[netip.Addr] }

func (n *names) set(address string) {
	a := netip.MustParseAddr(address)
	n.address.Store(&a)
}

// serve speaks DNS (RFC 1035) to a resolver over a connection made of messages.
func (n *names) serve(t *testing.T) *net.Resolver {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		message := make([]byte, 512)
		for {
			length, from, err := server.ReadFrom(message)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(n.reply(message[:length]), from)
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, server.Close())
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func (n *names) reply(question []byte) []byte {
	end := 12
	for question[end] != 0 {
		end += int(question[end]) + 1
	}
	end += 5
	reply := append([]byte(nil), question[:end]...)
	binary.BigEndian.PutUint16(reply[2:], 0x8180) // a response, recursion available
	clear(reply[6:12])                            // no answer, nor anything else
	if address := *n.address.Load(); binary.BigEndian.Uint16(question[end-4:]) == 1 {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // the same name, A, IN, for no time, four bytes
		reply = append(reply, address.AsSlice()...)
	}
	return reply
}

// A name that resolves to an allowed address and the next time to a forbidden one leads
// nowhere the second time: the address is checked, not the name.
func TestANameThatIsReboundLeadsNowhere(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, `{"state":"COMMITTED"}`)
	}))
	defer server.Close()
	at, err := url.Parse(server.URL)
	require.NoError(t, err)
	n := &names{}
	n.set("127.0.0.1")
	p, err := newHTTP(&site{
		kind: "http", name: "bank", url: "http://bank.example:" + at.Port(), insecure: true, resolver: n.serve(t), protocols: onlyHTTP1,
		allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}, false, false)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	b := participant.Branch{Domain: "d", Tx: participant.TxID{Term: participant.NewTerm(1, 1)}}
	require.NoError(t, p.Commit(t.Context(), b))
	require.EqualValues(t, 1, calls.Load())

	// It is listened to there, too: all of 127/8 is this machine.
	for address, want := range map[string]string{"127.0.0.2": "AllowPrefixes", "169.254.169.254": "never connected to", "0.0.0.0": "never connected to"} {
		n.set(address)
		err = p.Commit(t.Context(), b)
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, address)
	}
	require.EqualValues(t, 1, calls.Load())
}

// What is not encrypted stays on this machine, whatever the name resolves to.
func TestLocalhostThatIsElsewhereLeadsNowhere(t *testing.T) {
	n := &names{}
	n.set("10.0.0.1")
	w, err := (&site{kind: "http", name: "bank", url: "http://localhost:1", resolver: n.serve(t), protocols: onlyHTTP1}).wire()
	require.NoError(t, err)
	// The system's file of hosts may know localhost: another name comes to the same dialer.
	_, err = w.transport.DialContext(t.Context(), "tcp", "bank.example:1")
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "not encrypted")
}

// The environment's proxy gets no calls.
func TestNoProxyIsAsked(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	w, err := (&site{kind: "http", name: "bank", url: "https://bank.example", protocols: onlyHTTP1}).wire()
	require.NoError(t, err)
	require.Nil(t, w.transport.Proxy)
}
