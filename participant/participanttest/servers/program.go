package servers

import (
	"cmp"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// program returns the path of a program: the one in PATH, or else in a folder that
// matches one of the patterns, of several the one of the highest version. Debian
// keeps what users do not call themselves out of their PATH.
func program(debian, name string, folders ...string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, folder := range folders {
		found, err := filepath.Glob(filepath.Join(folder, name))
		if err != nil {
			return "", fmt.Errorf("look for %s: %w", name, err)
		}
		if len(found) > 0 {
			return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
		}
	}
	return "", fmt.Errorf("no program %s: install Debian's package %s", name, debian)
}

// version returns the number that the path has for a folder, as in
// "postgresql/15/bin/postgres"; 0 if none.
func version(path string) float64 {
	for path = filepath.Dir(path); path != filepath.Dir(path); path = filepath.Dir(path) {
		if number, err := strconv.ParseFloat(filepath.Base(path), 64); err == nil {
			return number
		}
	}
	return 0
}
