package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

var singleSyncArea = area{
	name:    "log.singlesync",
	figures: []string{"log.singlesync_ratio.c1"},
	measure: measureSingleSync, about: perRound(2),
}

// measureSingleSync compares the log with one fdatasync per commit to the log with two.
func measureSingleSync(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	var logs [2]*loadedLog // with two, with one
	for i, name := range []string{"twice.db", "once.db"} {
		opts := *anywhere
		opts.SingleSync = i == 1
		if logs[i], err = openLog(ctx, filepath.Join(dir, name), -1, &opts); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, logs[i].close(context.WithoutCancel(ctx))) }()
	}
	var ratios []float64
	for round := range o.Rounds {
		o.Progress(fmt.Sprintf("round %d of %d", round+1, o.Rounds))
		var rates [2]float64
		for turn := range rates {
			which := (round + turn) % 2 // neither always comes first
			r, err := load(ctx, 1, o.Slice, logs[which].transaction)
			if err != nil {
				return nil, err
			}
			rates[which] = r.perSecond
		}
		ratios = append(ratios, rates[1]/rates[0])
	}
	return []Figure{atLeast("log.singlesync_ratio.c1", median(ratios), "times", 1.4, "transactions with one fdatasync per commit to those with two, 1 client")}, nil
}
