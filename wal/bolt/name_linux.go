package bolt

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// The number of the system call statx, which package syscall does not know.
var statx = map[string]uintptr{
	"386": 383, "amd64": 332, "arm": 397, "arm64": 291, "loong64": 291, "ppc64le": 383, "riscv64": 291, "s390x": 379,
}[runtime.GOARCH]

const (
	statxEmptyPath = 0x1000 // the file itself, not one in it
	statxLinks     = 0x4    // what is asked for
	statxSize      = 256
	statxLinksAt   = 16
)

// countNames asks for nothing but the number of names. An fstat asks for times, too:
// then Linux gives the file a new one with its next write, and the fdatasync of the
// next commit takes a third longer.
func countNames(f *os.File) (links uint32, known bool) {
	if statx == 0 {
		return 0, false
	}
	var path [1]byte
	var answer [statxSize]byte
	_, _, errno := syscall.Syscall6(statx, f.Fd(), uintptr(unsafe.Pointer(&path)), statxEmptyPath, statxLinks, uintptr(unsafe.Pointer(&answer)), 0)
	given := binary.NativeEndian.Uint32(answer[:])
	return binary.NativeEndian.Uint32(answer[statxLinksAt:]), errno == 0 && given&statxLinks != 0
}
