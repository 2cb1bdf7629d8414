package wal

// Small makes a log in which a few short records are enough for everything that
// takes megabytes in a log of the usual size: carrying, dropping, several segments
// for one Open.
func (c Config) Small() Config {
	c.sizes = sizes{window: 2 << 10, groupSegments: 3, groupBytes: 1 << 10, maxGroup: 6, maxBatch: 1 << 10, terms: usualSizes.terms}
	return c
}

// DropAtOnce makes a log drop each segment as soon as it may.
func (c Config) DropAtOnce() Config {
	c.sizes = usualSizes
	c.sizes.groupSegments = 1
	return c
}

// FewTerms makes a log that has so many bytes for its list of terms.
func (c Config) FewTerms(bytes int) Config {
	c.sizes = usualSizes
	c.sizes.terms = bytes
	return c
}

// SmallWindow makes a log re-write what is live once it is larger than 512 KiB.
func (c Config) SmallWindow() Config {
	c.sizes = usualSizes
	c.sizes.window = 512 << 10
	return c
}
