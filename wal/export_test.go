package wal

// Small makes a log in which a few short records are enough for everything that
// takes megabytes in a log of the usual size: carrying, dropping, several segments
// for one Open.
func (c Config) Small() Config {
	c.sizes = sizes{window: 2 << 10, groupSegments: 3, groupBytes: 1 << 10, maxGroup: 6, maxBatch: 1 << 10}
	return c
}

// DropAtOnce makes a log drop each segment as soon as it may.
func (c Config) DropAtOnce() Config {
	c.sizes = usualSizes
	c.sizes.groupSegments = 1
	return c
}
