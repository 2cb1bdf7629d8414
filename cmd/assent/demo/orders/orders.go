// Package orders is the demo with real servers: orders move pieces between a
// PostgreSQL and a MariaDB database and publish a message each, while the coordinator
// and the servers are killed.
//
// The coordinator is a child process (child.go) with the participants (crew.go) and its
// log. The parent starts the servers (site.go), gives it orders (order.go), kills
// it and them (acts.go), reads the databases itself (database.go), and checks every
// claim it prints (proof.go). Where one does not hold, all is kept, and the demo says
// where to look (kept.go).
package orders

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// Options say what Run does.
type Options struct {
	// Dir is an empty folder for the log. It stays there.
	Dir string
	// Coordinator is the command line that runs Coordinate; the folder is added
	// to it.
	Coordinator []string
	// Addresses are those of the servers. Where one is empty, a server is started.
	Addresses Addresses
	// Orders is how many are carried out during the kills, at least MinOrders.
	Orders int
	// Seed makes orders and the plan of the kills.
	Seed uint64
	// Keep leaves what the demo made at the servers, also where its claims hold.
	Keep bool
	// Out gets the story, Watch a line that is written over and over; it may be
	// nil.
	Out, Watch io.Writer
}

// MinOrders is how many orders it takes to kill often enough, MaxOrders what ends
// within some hours.
const (
	MinOrders = 50
	MaxOrders = 100_000
)

// Run tells the story. Errors: demo.ErrNotProven, the end of ctx, and what kept a
// server or a coordinator from running.
func Run(ctx context.Context, o Options) (err error) {
	s := &story{Options: o, run: newRun(), reached: map[string]bool{}}
	s.Acts = demo.Acts[order]{
		Teller: &demo.Teller{Out: o.Out, Watch: o.Watch}, Start: s.start,
		Participants: participantNames, Places: "servers", Everywhere: "at all three servers",
	}
	err = s.open(ctx)
	if err == nil {
		err = s.tell(ctx)
	}
	//nolint:contextcheck // what was made is removed also after an interruption
	return errors.Join(err, s.end(s.outbox != nil && (s.Keep || errors.Is(err, demo.ErrNotProven))))
}

// open starts servers and opens what the parent needs to work with them.
func (s *story) open(ctx context.Context) (err error) {
	s.Progress("starting servers")
	s.site, err = openSite(ctx, s.Addresses)
	s.ClearProgress()
	if err != nil {
		return err
	}
	if s.crew, err = openCrew(ctx, &s.site.addresses, s.run, s.warnings(), false); err != nil {
		return err
	}
	if s.databases, err = openDatabases(&s.site.addresses, s.run); err != nil {
		return err
	}
	s.outbox = &outbox{s.crew.js, s.run}
	return nil
}

type story struct {
	demo.Acts[order]
	Options
	run       run
	site      *site
	crew      *crew
	databases map[string]*database
	outbox    *outbox
	// reached are the servers at which something may have been made.
	reached map[string]bool
}

// start starts a coordinator.
func (s *story) start(ctx context.Context) (*demo.Process, error) {
	p, err := demo.Start(ctx, s.Coordinator, s.Dir)
	if err == nil {
		p.Send(settings{s.site.addresses, s.run})
	}
	return p, err
}

func (s *story) tell(ctx context.Context) error {
	s.introduce()
	for _, name := range participantNames {
		if err := s.setUp(ctx, name); err != nil {
			return err
		}
	}
	err := s.acts(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, demo.ErrNotProven) {
		// Nothing of the kind may happen. Whoever wants to know why has to look.
		err = fmt.Errorf("%w: %w", demo.ErrNotProven, err)
	}
	return err
}

func (s *story) acts(ctx context.Context) error {
	acts := []demo.Act{demo.Unharmed(s.commit), demo.Unharmed(s.refusal), s.crash}
	for _, name := range s.killable() {
		acts = append(acts, s.outage(name))
	}
	if err := s.Show(ctx, acts...); err != nil {
		return err
	}
	storm, err := s.storm(ctx)
	if err != nil {
		return err
	}
	return s.prove(ctx, storm)
}

func (s *story) introduce() {
	s.Print("Two warehouses, one queue, one coordinator, and kill -9.\n")
	for _, name := range participantNames {
		s.Line(name, "%s", s.site.addresses.shown(name))
	}
	if len(s.killable()) == 0 {
		s.Print("The databases are not the demo's own: only the coordinator is killed. What is made there is\n"+
			"named %s, and removed at the end.\n", s.run.table("*"))
	}
	s.Print("Each warehouse begins with %d pieces of each of %d items; none may be lost or made. An order moves\n"+
		"pieces from one to the other and publishes a message.\n", openingStock, len(items))
}

// readyTime bounds what is asked of one server before the demo begins.
const readyTime = 10 * time.Second

// setUp makes at a participant's server what the run needs, and checks whether it can
// take part.
func (s *story) setUp(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("it did not answer within %s", readyTime))
	defer cancel()
	p := s.crew.participant(name)
	err := s.create(ctx, name, p)
	if err == nil {
		err = p.Check(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s at %s: %w", name, s.site.addresses.shown(name), err)
	}
	return nil
}

func (s *story) create(ctx context.Context, name string, p demo.Participant) error {
	table, ok := p.(interface{ CreateTable(context.Context) error })
	if !ok {
		s.reached[name] = true
		return s.outbox.create(ctx)
	}
	// First of all, because the participant knows best what an error means.
	err := table.CreateTable(ctx)
	d := s.databases[name]
	s.reached[name] = err == nil || d.db.PingContext(ctx) == nil
	if err != nil {
		return err
	}
	return d.create(ctx)
}

// killable are the servers that may be killed: all of them, or none if the databases
// are not the demo's own.
func (s *story) killable() []string {
	if s.site.own[postgresName] == nil {
		return nil
	}
	return participantNames
}

// endTime is how long it may take to remove what the demo made.
const endTime = 30 * time.Second

// end removes what the demo made, or keeps it and says where it is.
func (s *story) end(keep bool) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	if !keep {
		err = s.remove(ctx)
	}
	for _, d := range s.databases {
		err = errors.Join(err, d.db.Close())
	}
	if s.crew != nil {
		err = errors.Join(err, s.crew.close())
	}
	if !keep {
		return errors.Join(err, s.site.close())
	}
	again, keepErr := s.site.keep(ctx)
	s.tellKept(again)
	return errors.Join(err, keepErr)
}

// remove takes from servers that are not the demo's own what it made there.
func (s *story) remove(ctx context.Context) (err error) {
	for _, name := range participantNames {
		if s.site.own[name] == nil && s.reached[name] {
			err = errors.Join(err, s.removeFrom(ctx, name))
		}
	}
	return err
}

// removeFrom removes what the run has at a server. If it was interrupted, branches may be
// left prepared.
func (s *story) removeFrom(ctx context.Context, name string) error {
	p := s.crew.participant(name)
	listing, err := p.List(ctx, s.run.domain())
	for _, b := range listing.Prepared {
		b.Participant = name
		err = errors.Join(err, p.Rollback(ctx, b))
	}
	if d := s.databases[name]; d != nil {
		err = errors.Join(err, d.drop(ctx))
	} else {
		err = errors.Join(err, s.outbox.drop(ctx))
	}
	if err != nil {
		return fmt.Errorf("remove %s from %s: %w", s.run.table("*"), s.site.addresses.shown(name), err)
	}
	return nil
}
