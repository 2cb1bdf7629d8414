package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

var logArea = area{
	name: "log",
	figures: []string{
		"log.rate.c1", "log.p50_commits.c1", "log.raw_ratio.c1",
		"log.rate.c16", "log.raw_ratio.c16", "log.update_ratio.c16",
		"log.rate.c64", "log.raw_ratio.c64",
		"log.rate.c256", "log.raw_ratio.c256", "log.update_ratio.c256",
		"log.rate.c1024", "log.raw_ratio.c1024", "log.update_ratio.c1024", "log.bytes_per_tx.c1024",
		"log.retention_cost",
	},
	measure: measureLog, about: perRound(20),
}

// measureLog measures the log with nothing above it.
func measureLog(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	var m logs
	defer func() { err = errors.Join(err, m.close(context.WithoutCancel(ctx))) }()
	if err := m.open(ctx, dir); err != nil {
		return nil, err
	}
	if err := m.warm(ctx, o); err != nil {
		return nil, err
	}
	for _, clients := range []int{1, 16, 64, 256, 1024} {
		f, err := m.atClients(ctx, o, clients)
		if err != nil {
			return nil, fmt.Errorf("%d clients: %w", clients, err)
		}
		figures = append(figures, f...)
	}
	f, err := m.retention(ctx, o, 1024)
	if err != nil {
		return nil, fmt.Errorf("retention: %w", err)
	}
	return append(figures, f), nil
}

// logs are what is compared: a log that keeps no outcomes, one that does, what one
// goroutine can write at most, and bbolt used the obvious way.
type logs struct {
	off, kept *loadedLog
	raw       *rawLog
	plain     *plain
}

func (m *logs) open(ctx context.Context, dir string) (err error) {
	if m.off, err = openLog(ctx, filepath.Join(dir, "off.db"), -1, anywhere); err != nil {
		return err
	}
	if m.kept, err = openLog(ctx, filepath.Join(dir, "kept.db"), 0, anywhere); err != nil {
		return err
	}
	if m.raw, err = openRaw(ctx, filepath.Join(dir, "raw.db")); err != nil {
		return err
	}
	m.plain, err = openPlain(dir)
	return err
}

// warm brings all to where files do not grow any more: a block that is written for the
// first time makes an fdatasync wait for the file system's journal.
func (m *logs) warm(ctx context.Context, o Options) error {
	o.Progress("warming up")
	const many = 1024
	if _, err := load(ctx, many, o.Slice, m.off.transaction); err != nil {
		return err
	}
	_, err := m.raw.load(ctx, many, o.Slice)
	return err
}

func (m *logs) close(ctx context.Context) error {
	var errs []error
	for _, l := range []*loadedLog{m.off, m.kept} {
		if l != nil {
			errs = append(errs, l.close(ctx))
		}
	}
	if m.raw != nil {
		errs = append(errs, m.raw.store.Close())
	}
	if m.plain != nil {
		errs = append(errs, m.plain.close())
	}
	return errors.Join(errs...)
}

// The aims, by number of clients.
var (
	rawAims    = map[int]float64{1: 0.9, 16: 0.75, 64: 0.6, 256: 0.5, 1024: 0.35}
	updateAims = map[int]float64{16: 15, 256: 100, 1024: 200}
)

// Few clients take turns more often: it is the disk that they wait for, whose speed
// changes within a slice, and they leave no queue to run down at the end of one.
const (
	fewClients = 64
	shorter    = 4
)

// counted names a number of clients.
func counted(clients int) string {
	if clients == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", clients)
}

// updatesPerTransaction of the log: the two forced appends and the lazy one.
const updatesPerTransaction = 3

// twoUpdates is timed as a pair because a transaction is one: the middle of sums is not
// the sum of middles where some take far longer than others.
func (m *logs) twoUpdates(ctx context.Context) error {
	return errors.Join(m.plain.record(ctx), m.plain.record(ctx))
}

func (m *logs) atClients(ctx context.Context, o Options, clients int) ([]Figure, error) {
	if clients <= fewClients {
		o.Rounds, o.Slice = o.Rounds*shorter, o.Slice/shorter
	}
	var rates, toRaw, toUpdate, commits, written []float64
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("%s, round %d of %d", counted(clients), i+1, o.Rounds))
		before, err := bytesWritten()
		if err != nil {
			return nil, err
		}
		log, err := load(ctx, clients, o.Slice, m.off.transaction)
		if err != nil {
			return nil, err
		}
		after, err := bytesWritten()
		if err != nil {
			return nil, err
		}
		raw, err := m.raw.load(ctx, clients, o.Slice)
		if err != nil {
			return nil, err
		}
		// Clients of the plain side only wait for each other: one does as much.
		updates, err := load(ctx, 1, o.Slice, m.twoUpdates)
		if err != nil {
			return nil, err
		}
		rates, toRaw = append(rates, log.perSecond), append(toRaw, log.perSecond/raw)
		toUpdate = append(toUpdate, log.perSecond/(2*updates.perSecond/updatesPerTransaction))
		commits = append(commits, 2*float64(log.p50)/float64(updates.p50))
		written = append(written, float64(after-before)/float64(log.transactions))
	}
	name := func(what string) string { return fmt.Sprintf("log.%s.c%d", what, clients) }
	figures := []Figure{told(name("rate"), median(rates), "tx/s", "transactions per second of the log alone, "+counted(clients))}
	if clients == 1 {
		figures = append(figures, atMost(name("p50_commits"), median(commits), "commits", 2.1, "two forced appends of one client, in bbolt commits"))
	}
	figures = append(figures, atLeast(name("raw_ratio"), median(toRaw), "times", rawAims[clients], "the same to one goroutine that commits such batches, nobody waiting"))
	if aim, ok := updateAims[clients]; ok {
		figures = append(figures, atLeast(name("update_ratio"), median(toUpdate), "times", aim, "the same to one db.Update for each of 3 appends"))
	}
	if clients == 1024 && bytesKnown {
		figures = append(figures, atMost(name("bytes_per_tx"), median(written), "bytes", 300, "given to write calls for each transaction (wchar of /proc/self/io)"))
	}
	return figures, nil
}

// retention compares a log that keeps outcomes as by default with one that keeps
// none, once so many are kept that each new one makes an old one go.
func (m *logs) retention(ctx context.Context, o Options, clients int) (Figure, error) {
	for m.kept.log.Stats().Bytes < 64<<20 {
		o.Progress("filling a log with outcomes")
		if _, err := load(ctx, clients, o.Slice, m.kept.transaction); err != nil {
			return Figure{}, err
		}
	}
	var costs []float64
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("with outcomes, round %d of %d", i+1, o.Rounds))
		kept, err := load(ctx, clients, o.Slice, m.kept.transaction)
		if err != nil {
			return Figure{}, err
		}
		off, err := load(ctx, clients, o.Slice, m.off.transaction)
		if err != nil {
			return Figure{}, err
		}
		costs = append(costs, 100*(1-kept.perSecond/off.perSecond))
	}
	return atMost("log.retention_cost", median(costs), "%", 15, "throughput lost to keeping outcomes, "+counted(clients)), nil
}

// bytesWritten is what the process has given to write calls so far; 0 where that
// can't be known.
func bytesWritten() (int64, error) {
	if !bytesKnown {
		return 0, nil
	}
	text, err := os.ReadFile(ioCounters)
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("wchar: "))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.ParseInt(string(line), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("bytes written in %s: %w", ioCounters, err)
	}
	return n, nil
}

const ioCounters = "/proc/self/io"

var bytesKnown = func() bool {
	_, err := os.Stat(ioCounters)
	return err == nil
}()
