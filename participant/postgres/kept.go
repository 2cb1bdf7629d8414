package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

const (
	// keepTime is how long a prepared branch keeps its connection: as a rule the
	// decision comes much sooner, and is told on it. So as many branches are finished
	// at once as were prepared at once, and share the server's fsyncs, which two
	// connections of the participant's own could not do.
	keepTime = time.Second
	// yieldTime is how long it does if a branch that begins waits for a connection: a
	// participant that is slow to vote elsewhere must not make this one slow, too.
	yieldTime = 50 * time.Millisecond
)

// keep keeps the connection of a branch that voted prepared, for tell or until its
// time is over.
func (p *Participant) keep(tx participant.TxID, l lease) {
	p.mu.Lock()
	keeps := !p.closing
	if keeps {
		p.kept[tx] = l
	}
	p.mu.Unlock()
	if !keeps {
		l.giveBack(false)
		return
	}
	p.keepOn(tx, l, time.Now().Add(p.keepTime))
}

// keepOn looks, every yieldTime, whether the connection is to be given back.
func (p *Participant) keepOn(tx participant.TxID, l lease, until time.Time) {
	time.AfterFunc(yieldTime, func() {
		p.mu.Lock()
		keeps, wanted := p.kept[tx] == l, p.waiting > 0
		p.mu.Unlock()
		switch {
		case !keeps:
		case wanted || !time.Now().Before(until):
			p.letGo(tx, l)
		default:
			p.keepOn(tx, l, until)
		}
	})
}

// waits tells that a branch waits for a connection of the user's pool, until the
// returned function is called.
func (p *Participant) waits() (over func()) {
	wait := func(n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.waiting += n
	}
	wait(1)
	return func() { wait(-1) }
}

// letGo gives a connection back that is still kept.
func (p *Participant) letGo(tx participant.TxID, l lease) {
	p.mu.Lock()
	keeps := p.kept[tx] == l
	if keeps {
		delete(p.kept, tx)
	}
	p.mu.Unlock()
	if keeps {
		l.giveBack(false)
	}
}

// takeKept returns the branch's connection if it is kept, and hands it over.
func (p *Participant) takeKept(b participant.Branch) (l lease, keeps bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l, keeps = p.kept[b.Tx]
	delete(p.kept, b.Tx)
	return l, keeps
}

// tellOnKept runs a statement on the branch's own connection, and reports whether that
// did it. It is nobody else's, and so may break when ctx ends.
func (p *Participant) tellOnKept(ctx context.Context, b participant.Branch, statement string) bool {
	if ctx.Err() != nil {
		return false
	}
	l, keeps := p.takeKept(b)
	if !keeps {
		return false
	}
	err := l.use(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, statement)
		return err
	})
	l.giveBack(err != nil) // ctx may have cut it off
	return err == nil
}
