package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var txArea = area{
	name: "tx",
	figures: []string{
		"tx.p50.c1", "tx.rate.c1", "tx.rate.c64", "tx.rate.c1024", "tx.p50_commits.c1",
		"tx.update_ratio.c64", "tx.update_ratio.c1024", "tx.cpu_us.c1024",
		"tx.alloc_bytes.c1024", "tx.allocs.c1024", "tx.fdatasyncs.c1", "tx.fdatasyncs.c1024",
	},
	measure: measureTx, about: perRound(5),
}

// txRound is one round: what stands in a ratio was measured within a few seconds.
type txRound struct {
	// Of bbolt: one commit, and one db.Update for each record of a transaction.
	commit, update round
	c1, c64, c1024 txSlice
}

type txSlice struct {
	round
	fdatasyncs float64 // for each transaction
}

// measureTx measures an embedded coordinator, side by side with bbolt.
func measureTx(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	a, err := openAssent(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close(context.WithoutCancel(ctx))) }()
	p, err := openPlain(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	var rounds []txRound
	for i := range o.Rounds {
		o.Progress(fmt.Sprintf("round %d of %d", i+1, o.Rounds))
		r, err := measureTxRound(ctx, o.Slice, a, p)
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, r)
	}
	return txFigures(rounds), nil
}

func measureTxRound(ctx context.Context, slice time.Duration, a *assent, p *plain) (r txRound, err error) {
	if r.commit, err = load(ctx, 1, slice, p.record); err != nil {
		return r, err
	}
	if r.c1, err = a.slice(ctx, 1, slice); err != nil {
		return r, err
	}
	if r.c64, err = a.slice(ctx, 64, slice); err != nil {
		return r, err
	}
	// Clients of this side only wait for each other; one of them does as much in
	// the slice, without a queue to run down at its end.
	if r.update, err = load(ctx, 1, slice, p.transaction); err != nil {
		return r, err
	}
	r.c1024, err = a.slice(ctx, 1024, slice)
	return r, err
}

// slice lets clients make transactions, and counts the fdatasyncs.
func (a *assent) slice(ctx context.Context, clients int, slice time.Duration) (txSlice, error) {
	before, err := a.fdatasyncs()
	if err != nil {
		return txSlice{}, err
	}
	r, err := load(ctx, clients, slice, a.transaction)
	if err != nil {
		return txSlice{}, err
	}
	after, err := a.fdatasyncs()
	return txSlice{r, float64(after-before) / float64(r.transactions)}, err
}

func txFigures(rounds []txRound) []Figure {
	of := func(value func(txRound) float64) float64 { return medianOf(rounds, value) }
	return []Figure{
		told("tx.p50.c1", of(func(r txRound) float64 { return micros(r.c1.p50) }), "us", "begin to commit, 2 participants, 1 client"),
		told("tx.rate.c1", of(func(r txRound) float64 { return r.c1.perSecond }), "tx/s", "transactions per second, 1 client"),
		told("tx.rate.c64", of(func(r txRound) float64 { return r.c64.perSecond }), "tx/s", "the same, 64 clients"),
		told("tx.rate.c1024", of(func(r txRound) float64 { return r.c1024.perSecond }), "tx/s", "the same, 1024 clients"),
		atMost("tx.p50_commits.c1", of(func(r txRound) float64 { return float64(r.c1.p50) / float64(r.commit.p50) }), "commits", 2.3, "tx.p50.c1 in commits of bbolt"),
		atLeast("tx.update_ratio.c64", of(func(r txRound) float64 { return r.c64.perSecond / r.update.perSecond }), "times", 60, "tx.rate.c64 to one db.Update for each of 5 records"),
		atLeast("tx.update_ratio.c1024", of(func(r txRound) float64 { return r.c1024.perSecond / r.update.perSecond }), "times", 200, "tx.rate.c1024 to the same"),
		atMost("tx.cpu_us.c1024", of(func(r txRound) float64 { return micros(r.c1024.cpu) }), "us", 15, "processor time of a transaction, its client included"),
		atMost("tx.alloc_bytes.c1024", of(func(r txRound) float64 { return r.c1024.allocBytes }), "bytes", 4096, "allocated for a transaction"),
		atMost("tx.allocs.c1024", of(func(r txRound) float64 { return r.c1024.allocs }), "", 40, "allocations for a transaction"),
		exactly("tx.fdatasyncs.c1", of(func(r txRound) float64 { return r.c1.fdatasyncs }), "", 4, "fdatasyncs for a transaction, 1 client"),
		atMost("tx.fdatasyncs.c1024", of(func(r txRound) float64 { return r.c1024.fdatasyncs }), "", 0.02, "the same, 1024 clients"),
	}
}
