//go:build !linux

package servers

import (
	"context"
	"errors"
	"os/exec"
	"syscall"
)

const loopback = "127.0.0.1"

var errNotLinux = errors.New("servers are started on Linux only")

type process struct {
	command *exec.Cmd
	gone    chan struct{}
}

func startProcess(*exec.Cmd, syscall.Signal) (*process, error) { return nil, errNotLinux }

func (p *process) pid() int                    { return 0 }
func (p *process) signal(syscall.Signal) error { return errNotLinux }
func (p *process) kill(context.Context) error  { return errNotLinux }

type port struct{ number int }

func reservePort() (*port, error) { return nil, errNotLinux }

func (p *port) release() error { return nil }
