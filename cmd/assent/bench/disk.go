package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

var diskArea = area{
	name:    "disk",
	figures: []string{"disk.floor", "log.commit", "log.commit_floors"},
	measure: measureDisk, about: perRound(2),
}

// measureDisk measures what no log can go below: one write of a page that the disk
// has, and one commit of bbolt.
func measureDisk(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	f, err := openFloor(filepath.Join(dir, "floor"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.file.Close()) }()
	p, err := openPlain(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()

	type pair struct{ floor, commit time.Duration }
	var rounds []pair
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("round %d of %d", i+1, o.Rounds))
		floor, err := load(ctx, 1, o.Slice, f.overwrite)
		if err != nil {
			return nil, err
		}
		commit, err := load(ctx, 1, o.Slice, p.record)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, pair{floor.p50, commit.p50})
	}
	return []Figure{
		told("disk.floor", medianOf(rounds, func(r pair) float64 { return micros(r.floor) }), "us", "overwrite 4 KiB of a file filled with zeros, and fdatasync"),
		told("log.commit", medianOf(rounds, func(r pair) float64 { return micros(r.commit) }), "us", "one commit of bbolt: two fdatasyncs"),
		told("log.commit_floors", medianOf(rounds, func(r pair) float64 { return float64(r.commit) / float64(r.floor) }), "floors", "the same, in disk floors"),
	}, nil
}

const (
	pageBytes  = 4 << 10
	floorPages = 1024
)

// floor is a file whose blocks are on the disk already, so that fdatasync has the
// page to write and nothing else.
type floor struct {
	file *os.File
	page [pageBytes]byte
	next int64
}

func openFloor(path string) (*floor, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	_, err = file.Write(make([]byte, floorPages*pageBytes))
	if err = errors.Join(err, file.Sync()); err != nil {
		return nil, errors.Join(fmt.Errorf("fill %s with zeros: %w", path, err), file.Close())
	}
	return &floor{file: file}, nil
}

// overwrite writes each page in its turn, with something new.
func (f *floor) overwrite(context.Context) error {
	f.next++
	f.page[0] = byte(f.next / floorPages)
	if _, err := f.file.WriteAt(f.page[:], f.next%floorPages*pageBytes); err != nil {
		return err
	}
	return datasync(f.file)
}
