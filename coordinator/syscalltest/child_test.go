package syscalltest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
)

// orders say what the traced process is to do.
type orders struct {
	Dir     string // of its log and the files it writes
	Address string // of the participant behind a socket
	Clients int
	Each    int // transactions of a client
	Force   bool
	Liar    bool // its log says of each append that it is durable before it is written
}

// ordersEnv makes the test binary the traced process.
const ordersEnv = "ASSENT_SYSCALLTEST_ORDERS"

// The files in orders.Dir.
const (
	logFile    = "log"
	bankFile   = "bank"
	clientFile = "client"
)

// child is the traced process: a coordinator on a log, clients, a participant
// behind a socket, and one that writes to a file of its own. Whatever they are told
// they write down in one line, in a single write.
func child(text string) error {
	var o orders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	bank, err := os.Create(filepath.Join(o.Dir, bankFile))
	if err != nil {
		return err
	}
	clients, err := os.Create(filepath.Join(o.Dir, clientFile))
	if err != nil {
		return err
	}
	connection, err := net.Dial("tcp", o.Address)
	if err != nil {
		return err
	}
	store, err := bolt.Open(filepath.Join(o.Dir, logFile), nil)
	if err != nil {
		return err
	}
	answers := bufio.NewScanner(connection)
	forgotten := make(chan string, 2*o.Clients*o.Each)
	p := &play{
		wire: &teller{name: "wire", forgotten: forgotten, tell: func(line string) error {
			_, err := connection.Write([]byte(line))
			if err == nil && !answers.Scan() {
				err = errors.New("the socket is closed")
			}
			return err
		}},
		file:    &teller{name: "file", forgotten: forgotten, tell: func(line string) error { _, err := bank.WriteString(line); return err }},
		clients: clients,
	}
	config := coordinator.Config{Domain: "test", Store: store, ForceEveryTransition: o.Force, CommitWait: time.Minute}
	if o.Liar {
		config.Store = &liar{store}
	}
	if p.dtm, err = coordinator.Open(context.Background(), config); err != nil {
		return err
	}
	err = p.all(o, forgotten)
	return errors.Join(err, p.dtm.Close(context.Background()), store.Close(), connection.Close(), bank.Close(), clients.Close())
}

// teller is a participant that writes down each call. It votes as the branch's Data
// says.
type teller struct {
	name      string
	forgotten chan<- string
	mu        sync.Mutex // one call at a time: a line is written whole
	tell      func(line string) error
}

const (
	readOnly = "read-only"
	refuses  = "refuses"
)

func (t *teller) told(verb string, b participant.Branch) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tell(fmt.Sprintf("%s %s\n", verb, b.XID()))
}

func (t *teller) Name() string { return t.name }

func (t *teller) Prepare(_ context.Context, b participant.Branch) (participant.Vote, error) {
	if err := t.told("prepare", b); err != nil {
		return 0, err
	}
	switch string(b.Data) {
	case readOnly:
		return participant.VoteReadOnly, nil
	case refuses:
		return participant.VoteRefused, nil
	default:
		return participant.VotePrepared, nil
	}
}

func (t *teller) Commit(_ context.Context, b participant.Branch) error { return t.told("commit", b) }

func (t *teller) Rollback(_ context.Context, b participant.Branch) error {
	return t.told("rollback", b)
}

func (t *teller) CommitOnePhase(_ context.Context, b participant.Branch) error {
	return t.told("one-phase", b)
}

func (t *teller) Forget(_ context.Context, branches []participant.Branch) error {
	for _, b := range branches {
		if err := t.told("forget", b); err != nil {
			return err
		}
		t.forgotten <- b.Tx.String()
	}
	return nil
}

// play is what the clients do.
type play struct {
	dtm        *coordinator.DTM
	wire, file *teller
	mu         sync.Mutex
	clients    *os.File
}

// scene is a kind of transaction: the data of its branches, if it has them.
type scene struct {
	wire, file []byte
	rollback   bool   // by the client, before prepare
	ends       string // what the client writes down in the end
}

var (
	works  = []byte("works")
	scenes = []scene{
		{wire: works, file: works, ends: committed},
		{wire: works, file: []byte(refuses), ends: rolledBack},
		{wire: works, ends: committed}, // in one phase
		{wire: works, file: works, rollback: true, ends: rolledBack},
		{wire: []byte(readOnly), file: works, ends: committed},
		{file: works, ends: committed}, // in one phase
		{wire: []byte(readOnly), file: []byte(readOnly), ends: unchanged},
		{wire: works, file: works, ends: committed},
	}
)

// What a client writes down.
const (
	began      = "began"
	enlisted   = "enlisted"
	committed  = "committed"
	rolledBack = "rolled-back"
	unchanged  = "unchanged" // committed by branches that had nothing to commit
)

// all runs the clients, and waits until those transactions are forgotten that are
// committed in two phases at both participants.
func (p *play) all(o orders, forgotten <-chan string) error {
	var wg sync.WaitGroup
	errs := make(chan error, o.Clients)
	for client := range o.Clients {
		wg.Go(func() {
			for n := range o.Each {
				if err := p.act(scenes[(client+n)%len(scenes)]); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	due := 0
	for n := range o.Clients * o.Each {
		if s := scenes[(n/o.Each+n%o.Each)%len(scenes)]; string(s.wire) == string(works) && s.ends == committed {
			due++ // the socket's branch is to be forgotten
		}
	}
	limit := time.After(time.Minute)
	for seen := map[string]bool{}; len(seen) < due; {
		select {
		case tx := <-forgotten:
			seen[tx] = true
		case <-limit:
			return fmt.Errorf("%d of %d transactions were forgotten", len(seen), due)
		}
	}
	return nil
}

func (p *play) act(s scene) error {
	ctx := context.Background()
	id, err := p.dtm.Begin(ctx)
	if err != nil {
		return err
	}
	if err := p.note("%s %s\n", began, id); err != nil {
		return err
	}
	branches := 0
	for _, b := range []struct {
		at   *teller
		data []byte
	}{{p.wire, s.wire}, {p.file, s.file}} {
		if b.data == nil {
			continue
		}
		if err := p.dtm.Enlist(ctx, id, b.at, coordinator.WithData(b.data)); err != nil {
			return err
		}
		if err := p.note("%s %s %d\n", enlisted, id, branches); err != nil {
			return err
		}
		branches++
	}
	if s.rollback {
		err = p.dtm.Rollback(ctx, id)
	} else if err = p.dtm.Commit(ctx, id); s.ends == rolledBack && errors.Is(err, coordinator.ErrRolledBack) {
		err = nil
	}
	if err != nil {
		return err
	}
	err = p.note("%s %s\n", s.ends, id)
	if s.rollback {
		// Rollback does not wait until the branches were told, Commit does.
		if told := p.dtm.Commit(ctx, id); !errors.Is(told, coordinator.ErrRolledBack) {
			return fmt.Errorf("transaction %s was rolled back: %w", id, errors.Join(told, err))
		}
	}
	return err
}

func (p *play) note(format string, args ...any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintf(p.clients, format, args...)
	return err
}

// liar is a log's store that calls an append durable before it has begun: it makes
// it only when the next one comes.
type liar struct{ wal.Store }

func (l *liar) Open(ctx context.Context, owner string) (wal.Stream, error) {
	s, err := l.Store.Open(ctx, owner)
	return &lyingStream{Stream: s}, err
}

type lyingStream struct {
	wal.Stream
	due func() error
}

func (s *lyingStream) Append(ctx context.Context, seq uint64, segment []byte, drop []uint64) error {
	err := s.settle()
	segment, drop = append([]byte(nil), segment...), append([]uint64(nil), drop...)
	s.due = func() error { return s.Stream.Append(ctx, seq, segment, drop) }
	return err
}

func (s *lyingStream) settle() error {
	if s.due == nil {
		return nil
	}
	return s.due()
}
