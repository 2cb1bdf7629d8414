package bolt

import (
	"fmt"
	"path/filepath"
	"syscall"
)

// fileSystems are those that need care, by what statfs calls their type.
// What is not listed is taken for a local file system with a disk.
var fileSystems = map[uint32]fileSystem{
	0x6969:     {name: "NFS", network: true},
	0x517b:     {name: "SMB", network: true},
	0xff534d42: {name: "CIFS", network: true},
	0xfe534d42: {name: "SMB2", network: true},
	0x01021997: {name: "9P", network: true},
	0x00c36400: {name: "Ceph", network: true},
	0x5346414f: {name: "AFS", network: true},
	0x6b414653: {name: "AFS", network: true},
	0x73757245: {name: "Coda", network: true},
	0x0bd00bd0: {name: "Lustre", network: true},
	0x47504653: {name: "GPFS", network: true},
	0x19830326: {name: "BeeGFS", network: true},
	0x786f4256: {name: "VirtualBox shared folder", network: true},
	0xbacbacbc: {name: "VMware shared folder", network: true},

	0x9123683e: {name: "Btrfs", copies: true},
	0x2fc12fc1: {name: "ZFS", copies: true},
	0xca451a4e: {name: "bcachefs", copies: true},

	0x65735546: {name: "FUSE", risk: "a program serves it: it keeps the log only if that does what fsync and flock ask, and on one machine (GlusterFS and sshfs are FUSE, too)"},
	0x01021994: {name: "tmpfs", risk: "it is memory: a reboot loses the log, and every decision that was not told everywhere"},
	0x858458f6: {name: "ramfs", risk: "it is memory: a reboot loses the log, and every decision that was not told everywhere"},
	0x794c7630: {name: "overlay", risk: "it is as a rule the file system of a container, and removed with it: mount a volume for the log"},
}

// fileSystemOf returns what is known of the file system that will hold path.
func fileSystemOf(path string) (fileSystem, error) {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &stat); err != nil {
		return fileSystem{}, fmt.Errorf("file system of log %s: %w", path, err)
	}
	return fileSystems[uint32(stat.Type)], nil
}
