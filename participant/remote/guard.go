package remote

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/assent-tm/assent/participant"
)

// guard decides which addresses are connected to. It is asked about each address just
// before it is connected to, so a name that resolves otherwise the next time gains nothing.
type guard struct {
	// allow is where a service may be; empty: anywhere but where none is ever.
	allow []netip.Prefix
	// loopbackOnly is for what is not encrypted.
	loopbackOnly bool
}

// denied are addresses at which no service is: those of a link, under which clouds
// give out credentials to whoever asks, those of groups, and those that mean "here".
var denied = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),          // this host (RFC 1122 3.2.1.3)
	netip.MustParsePrefix("169.254.0.0/16"),     // link-local (RFC 3927), metadata services
	netip.MustParsePrefix("100.100.100.200/32"), // metadata of Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // the host of an Azure machine
	netip.MustParsePrefix("192.0.0.192/32"),     // metadata of Oracle Cloud
	netip.MustParsePrefix("224.0.0.0/4"),        // multicast
	netip.MustParsePrefix("240.0.0.0/4"),        // reserved, broadcast
	netip.MustParsePrefix("::/128"),             // unspecified
	netip.MustParsePrefix("fe80::/10"),          // link-local
	netip.MustParsePrefix("fec0::/10"),          // site-local, deprecated
	netip.MustParsePrefix("ff00::/8"),           // multicast
	netip.MustParsePrefix("fd00:ec2::/32"),      // metadata of AWS, and its time service
	netip.MustParsePrefix("fd20:ce::/32"),       // metadata of Google Cloud
}

// embedding are IPv6 addresses that stand for an IPv4 address: the prefix, and at which
// byte the address begins.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64 (RFC 6052)
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4 (RFC 3056)
	{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible, deprecated (RFC 4291)
}

// control is a net.Dialer's ControlContext.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: address %q can't be checked: %w", participant.ErrConfig, address, err)
	}
	return g.check(at.Addr())
}

// check returns an ErrConfig if the address is not to be connected to.
func (g *guard) check(addr netip.Addr) error {
	addr = addr.WithZone("").Unmap()
	if forbidden(addr) {
		return fmt.Errorf("%w: the service's name resolves to %s, which is a link-local, metadata or group address and never connected to: change its URL or its name", participant.ErrConfig, addr)
	}
	if g.loopbackOnly && !addr.IsLoopback() {
		return fmt.Errorf("%w: the service's name resolves to %s, and calls that are not encrypted go to this machine only: use https, or AllowInsecure", participant.ErrConfig, addr)
	}
	for _, prefix := range g.allow {
		if prefix.Contains(addr) {
			return nil
		}
	}
	if len(g.allow) > 0 {
		return fmt.Errorf("%w: the service's name resolves to %s, which is in none of AllowPrefixes %v", participant.ErrConfig, addr, g.allow)
	}
	return nil
}

func forbidden(addr netip.Addr) bool {
	for _, prefix := range denied {
		if prefix.Contains(addr) {
			return true
		}
	}
	if addr.Is4() || addr.IsLoopback() {
		return false
	}
	bytes := addr.As16()
	for _, e := range embedding {
		if e.prefix.Contains(addr) {
			return forbidden(netip.AddrFrom4([4]byte(bytes[e.at : e.at+net.IPv4len])))
		}
	}
	return false
}
