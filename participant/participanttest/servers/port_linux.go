package servers

import (
	"fmt"
	"os"
	"syscall"
)

const loopback = "127.0.0.1"

// port is a port of the loopback address, kept for one server also while that is
// down. A socket is bound to it that does not listen: connecting is refused, and
// the kernel gives the port to nobody who asks for a free one, also not as the
// source of a connection, which could even connect to itself. A server binds to it
// all the same, because both sockets have SO_REUSEADDR.
type port struct {
	number int
	socket int
}

func reservePort() (*port, error) {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	number, err := bindAny(socket)
	if err != nil {
		_ = syscall.Close(socket)
		return nil, err
	}
	return &port{number: number, socket: socket}, nil
}

func bindAny(socket int) (int, error) {
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	// Not before: with it the kernel might give a port that another one has reserved.
	if err := syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	addr, err := syscall.Getsockname(socket)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	inet, ok := addr.(*syscall.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("bound to %T", addr)
	}
	return inet.Port, nil
}

func (p *port) release() error { return os.NewSyscallError("close", syscall.Close(p.socket)) }
