package servers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// owner is the user whose processes and files a server is made of. Nil stands for
// the caller.
type owner struct {
	name     string
	uid, gid uint32
}

// ownerNamed returns the owner for a server that should run as this user: nil if
// that is the caller, who can't be anybody else unless they are the superuser.
func ownerNamed(name string) (*owner, error) {
	if name == "" || os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("as root it runs as user %s: %w", name, err)
	}
	uid, uidErr := strconv.ParseUint(found.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(found.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return nil, fmt.Errorf("ids of user %s: %w", name, err)
	}
	return &owner{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
}

// makeDir makes a temporary directory that belongs to the owner. The caller
// removes it, also after an error if it is not empty.
func (o *owner) makeDir() (dir string, err error) {
	if o != nil {
		if err := o.canReach(os.TempDir()); err != nil {
			return "", err
		}
	}
	if dir, err = os.MkdirTemp("", dirPattern); err == nil && o != nil {
		err = os.Chown(dir, int(o.uid), int(o.gid))
	}
	return dir, err
}

// canReach returns an error if the owner can't enter dir or a directory above it.
// It looks at the mode only: the owner and group bits of others' directories are
// no concern of a service's user.
func (o *owner) canReach(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if ok && stat.Uid == o.uid {
			if info.Mode()&0o100 == 0 {
				return o.closedTo(dir, info)
			}
		} else if info.Mode()&0o001 == 0 {
			return o.closedTo(dir, info)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

func (o *owner) closedTo(dir string, info fs.FileInfo) error {
	return fmt.Errorf("user %s can't enter %s (%s): set TMPDIR to a directory that all may enter", o.name, dir, info.Mode())
}

// own makes the owner run the command, in dir, where it also keeps temporary files:
// the caller's directory for them need not be open to the owner.
func (o *owner) own(command *exec.Cmd, dir string) {
	command.Dir = dir
	command.Env = append(command.Environ(), "TMPDIR="+dir)
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	if o != nil {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: o.uid, Gid: o.gid}
	}
}
