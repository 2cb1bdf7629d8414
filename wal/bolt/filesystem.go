package bolt

import (
	"errors"
	"fmt"

	"go.uber.org/zap"
)

// ErrNetworkFS says that the log would lie on a network file system. There neither
// a lock nor fsync means what the log needs it to mean: two coordinators could
// write one log, and what was acknowledged could be gone.
var ErrNetworkFS = errors.New("log is on a network file system")

// fileSystem is what speaks against keeping a log on one; zero: nothing is known.
type fileSystem struct {
	name    string
	network bool
	copies  bool   // an overwrite takes new blocks: having some is of no use
	risk    string // what may happen to the log here
}

// judge refuses a network file system and warns of others that a log may be lost on.
func (fs fileSystem) judge(path string, opts *Options) error {
	switch {
	case fs.network && !opts.AllowNetworkFS:
		return fmt.Errorf("%w: %s is on %s; use a local disk, or set Options.AllowNetworkFS if locks and fsync are known to hold there", ErrNetworkFS, path, fs.name)
	case fs.network:
		opts.logger().Warn("log is on a network file system, as was asked for: safe only if its locks and fsync hold for all clients",
			zap.String("path", path), zap.String("file_system", fs.name))
	case fs.risk != "":
		opts.logger().Warn("log may be lost here: "+fs.risk, zap.String("path", path), zap.String("file_system", fs.name))
	}
	return nil
}
