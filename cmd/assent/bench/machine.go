package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// unknown is what a machine does not tell.
const unknown = "unknown file system"

// Machine is what figures depend on.
type Machine struct {
	CPUs       int    `json:"cpus"` // that Go uses
	Processor  string `json:"processor"`
	FileSystem string `json:"file_system"`
	System     string `json:"system"` // operating system and kernel
	Go         string `json:"go"`
}

// spaceNeeded is what the measurement may take on the disk at a time, in bytes.
const spaceNeeded = 1 << 30

// Describe finds out what a measurement in dir measures. It is a BadOption if dir
// can't be measured in.
func Describe(dir string) (Machine, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	if err := checkDir(dir); err != nil {
		return Machine{}, BadOption{fmt.Errorf("--dir: %w", err)}
	}
	return Machine{
		CPUs: runtime.GOMAXPROCS(0), Processor: processor(), FileSystem: fileSystem(dir),
		System: system(), Go: runtime.Version(),
	}, nil
}

func (m Machine) String() string {
	text := fmt.Sprintf("%d x %s, %s, %s, %s", m.CPUs, m.Processor, m.FileSystem, m.System, m.Go)
	if m.InMemory() {
		text += " (in memory: no disk was measured)"
	}
	return text
}

// InMemory says that there is no disk under the file system: its fdatasync is
// nothing, and the figures say nothing about a log.
func (m Machine) InMemory() bool { return m.FileSystem == "tmpfs" || m.FileSystem == "ramfs" }

func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return enough(dir, fs.Bavail*uint64(fs.Bsize))
}

func enough(dir string, free uint64) error {
	if free < spaceNeeded {
		return fmt.Errorf("%s has %d MiB free and the measurement may take %d MiB: free some, or give a directory on another disk", dir, free>>20, spaceNeeded>>20)
	}
	return nil
}

// processor, system and fileSystem read what Linux tells.

func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(bytes.TrimSpace(name)) == "model name" {
			return string(bytes.TrimSpace(value))
		}
	}
	return runtime.GOARCH
}

func system() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return "Linux " + string(bytes.TrimSpace(release))
}

func fileSystem(dir string) string {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return unknown
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return unknown
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return unknown
	}
	return mountedAt(string(table), dir)
}

// mountedAt looks dir up in a mountinfo(5) table: the last of the longest mount
// points it lies below.
func mountedAt(table, dir string) string {
	found, longest := unknown, ""
	for line := range strings.Lines(table) {
		mount, rest, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(mount), strings.Fields(rest)
		if !ok || len(fields) < 5 || len(kind) == 0 {
			continue
		}
		point := strings.ReplaceAll(fields[4], `\040`, " ")
		below := point == "/" || dir == point || strings.HasPrefix(dir, point+"/")
		if below && len(point) >= len(longest) {
			found, longest = kind[0], point
		}
	}
	return found
}
