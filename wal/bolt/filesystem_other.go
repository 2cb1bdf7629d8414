//go:build !linux

package bolt

// fileSystemOf does not know.
func fileSystemOf(string) (fileSystem, error) { return fileSystem{}, nil }
