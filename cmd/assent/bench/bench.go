package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// Options say how long to measure.
type Options struct {
	// Dir is where the logs are made, in a directory of their own that is removed
	// afterwards; "" for the system's directory for temporary files. It decides
	// which disk is measured.
	Dir string
	// Rounds is the number of slices each figure is the median of, Slice how long
	// one takes.
	Rounds int
	Slice  time.Duration
	// Quick asks for smaller sets where a figure needs many transactions: all
	// figures together in less than a minute.
	Quick bool
	// Progress is told what is being measured; may be nil.
	Progress func(what string)
}

// Run measures all figures.
func Run(ctx context.Context, o Options) (figures []Figure, err error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	dir, err := os.MkdirTemp(o.Dir, "assent-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the logs: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	a, err := openAssent(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, a.close(context.WithoutCancel(ctx))) }()
	p, err := openPlain(dir)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return measure(ctx, o, a, p)
}

func measure(ctx context.Context, o Options, a *assent, p *plain) ([]Figure, error) {
	lone, err := loneClient(ctx, o, a, p)
	if err != nil {
		return nil, fmt.Errorf("measure one client: %w", err)
	}
	figures := lone
	for _, at := range []struct {
		clients int
		aim     float64
	}{{64, 30}, {1024, 100}} {
		f, err := manyClients(ctx, o, a, p, at.clients, at.aim)
		if err != nil {
			return nil, fmt.Errorf("measure %d clients: %w", at.clients, err)
		}
		figures = append(figures, f...)
	}
	return figures, nil
}

// loneClient compares a transaction with a single commit of bbolt.
func loneClient(ctx context.Context, o Options, a *assent, p *plain) ([]Figure, error) {
	var commits, latencies []time.Duration
	var ratios, rates []float64
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("1 client, round %d of %d", i+1, o.Rounds))
		commit, err := load(ctx, 1, o.Slice, p.record)
		if err != nil {
			return nil, err
		}
		tx, err := load(ctx, 1, o.Slice, a.transaction)
		if err != nil {
			return nil, err
		}
		commits, latencies = append(commits, commit.p50), append(latencies, tx.p50)
		ratios, rates = append(ratios, float64(tx.p50)/float64(commit.p50)), append(rates, tx.perSecond)
	}
	return []Figure{
		told("log.commit", float64(median(commits).Microseconds()), "us", "one bbolt commit, two fdatasyncs"),
		told("tx.p50.c1", float64(median(latencies).Microseconds()), "us", "begin to commit, 2 participants, 1 client"),
		told("tx.rate.c1", median(rates), "tx/s", "transactions per second, 1 client"),
		atMost("tx.p50_commits.c1", median(ratios), "commits", 2.3, "the same in bbolt commits"),
	}, nil
}

// manyClients compares throughput with one Update for each record.
func manyClients(ctx context.Context, o Options, a *assent, p *plain, clients int, aim float64) ([]Figure, error) {
	var ratios, rates []float64
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("%d clients, round %d of %d", clients, i+1, o.Rounds))
		tx, err := load(ctx, clients, o.Slice, a.transaction)
		if err != nil {
			return nil, err
		}
		// Clients of the other side only wait for each other; one of them does as
		// much in the slice, without a queue to run down at its end.
		update, err := load(ctx, 1, o.Slice, p.transaction)
		if err != nil {
			return nil, err
		}
		ratios, rates = append(ratios, tx.perSecond/update.perSecond), append(rates, tx.perSecond)
	}
	return []Figure{
		told(fmt.Sprintf("tx.rate.c%d", clients), median(rates), "tx/s", fmt.Sprintf("transactions per second, %d clients", clients)),
		atLeast(fmt.Sprintf("tx.update_ratio.c%d", clients), median(ratios), "times", aim, "the same to one db.Update for each of 5 records"),
	}, nil
}
