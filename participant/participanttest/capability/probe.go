package capability

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// probes tell whether the machine has a capability. Where being installed is not
// enough (a container may forbid tracing or namespaces), they try it.
var probes = map[Capability]func() error{
	Root:     root,
	Gcc:      func() error { return run("#include <stdlib.h>\n", "gcc", "-E", "-") },
	Postgres: func() error { return program("/usr/lib/postgresql/*/bin", "initdb", "postgres") },
	MariaDB:  func() error { return program("/usr/sbin", "mariadbd", "mariadb-install-db") },
	Redis:    func() error { return program("", "redis-server") },
	Fuse:     fuse,
	Loop:     func() error { return errors.Join(root(), exists("/dev/loop-control"), program("/sbin", "losetup")) },
	Mount:    func() error { return run("", "unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", os.TempDir()) },
	Netns:    func() error { return run("", "unshare", "--net", "true") },
	Strace:   func() error { return run("", "strace", "-o", os.DevNull, "true") },
	Spin:     func() error { return program("", "spin") },
	Python:   func() error { return program("", "python3") },
	Node:     func() error { return program("", "node") },
	Curl:     func() error { return program("", "curl") },
	GRPCIO:   func() error { return run("", "/usr/bin/python3", "-c", "import grpc, google.protobuf") },
}

func missing(c Capability) error {
	probe, ok := probes[c]
	if !ok {
		return errors.New("no such capability")
	}
	err := probe()
	if err == nil {
		return nil
	}
	// One line: the reason of a skip is read line by line.
	return errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
}

func root() error {
	if os.Geteuid() != 0 {
		return errors.New("not running as root")
	}
	return nil
}

func fuse() error {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(device.Close(), program("", "fusermount3"))
}

// program looks for every name in PATH and then in the folders of the pattern,
// where distributions keep what users do not call themselves.
func program(folders string, names ...string) error {
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		found, err := filepath.Glob(filepath.Join(folders, name))
		if err != nil {
			return fmt.Errorf("look for %s: %w", name, err)
		}
		if folders == "" || len(found) == 0 {
			return fmt.Errorf("no program %s", name)
		}
	}
	return nil
}

func exists(path string) error {
	_, err := os.Stat(path)
	return err
}

func run(stdin, name string, args ...string) error {
	command := exec.Command(name, args...)
	command.Stdin = strings.NewReader(stdin)
	output, err := command.CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(output))
	if text == "" {
		return fmt.Errorf("run %s: %w", name, err)
	}
	return fmt.Errorf("run %s: %w: %s", name, err, text)
}
