package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/assent-tm/assent/participant"
)

// HubConfig says how a Hub works. Zero values mean the defaults.
type HubConfig struct {
	// Domain is the coordinator's; instances are told it.
	Domain string
	// MaxStreams is the number of streams that are attached at a time, of all
	// participants. DefaultMaxStreams.
	MaxStreams int
	// MaxCalls is the number of one participant's calls that wait for an instance or
	// for an answer. DefaultMaxCalls.
	MaxCalls int
	// Grace is how long the branches of an instance whose stream broke wait for it to
	// attach again before another one gets their calls, and a Prepare that it was sent
	// is given up. DefaultGrace; negative for not at all.
	Grace time.Duration
}

// Defaults of HubConfig.
const (
	DefaultMaxStreams = 20_000
	DefaultMaxCalls   = 16_384
	DefaultGrace      = 2 * time.Second
)

// ErrHubClosed says that a call found its Hub closed: the coordinator is ending.
var ErrHubClosed = errors.New("no more calls to attached instances: the coordinator ends")

// Hub is the coordinator's side of participants that no call can reach: their
// instances attach to it by a stream, on which they get calls and answer them. Safe
// for concurrent use.
type Hub struct {
	cfg    HubConfig
	server string // names this run
	// channels are those of calls that are over.
	channels sync.Pool

	mu           sync.Mutex
	participants map[string]*attached
	streams      int
	closing      bool
	attaching    sync.WaitGroup // goroutines and timers of the hub
	quiet        chan struct{}  // closed when it is closing and no stream is left
}

// NewHub returns a Hub without participants. Close it once its coordinator makes no
// more calls.
func NewHub(cfg HubConfig) (*Hub, error) {
	if err := participant.ValidDomain(cfg.Domain); err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	if cfg.MaxStreams < 0 || cfg.MaxCalls < 0 {
		return nil, fmt.Errorf("hub: MaxStreams %d and MaxCalls %d must not be negative", cfg.MaxStreams, cfg.MaxCalls)
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = DefaultMaxStreams
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = DefaultMaxCalls
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	return &Hub{cfg: cfg, server: rand.Text(), participants: make(map[string]*attached), quiet: make(chan struct{})}, nil
}

// Participant returns the participant whose calls go to the instances that attach
// under this name: the same one each time. It is a participant.Lister if lists is
// true, and a participant.Forgetter if forgets is; instances that can't do that are
// then refused. All instances of a participant work on the same resource, as several
// processes do that share a database: any of them can list and finish every branch.
//
// A call waits for an instance, and for the answer, until its context ends; then what
// came of it is unknown. An unanswered call is sent again when its instance attaches
// again, or to another one; a Prepare is not sent to a second instance, unless the first
// has left in good order: what came of it is unknown, too (R4).
func (h *Hub) Participant(name string, lists, forgets bool) (participant.Participant, error) {
	if err := participant.ValidName(name); err != nil {
		return nil, fmt.Errorf("attached participant: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.participants[name]
	if p == nil {
		p = newAttached(h, name, lists, forgets)
		p.closed = h.closing
		h.participants[name] = p
	}
	if p.lists != lists || p.forgets != forgets {
		return nil, fmt.Errorf("attached participant %q: %w: lists %t, forgets %t", name, participant.ErrNameTaken, p.lists, p.forgets)
	}
	return p.facade(), nil
}

// Instances returns the names of the instances that are attached as this participant.
func (h *Hub) Instances(name string) []string {
	if p := h.participant(name); p != nil {
		return p.attachedNames()
	}
	return nil
}

func (h *Hub) participant(name string) *attached {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.participants[name]
}

// Close tells the instances to answer what they were asked and to leave, and waits for
// that until ctx ends; then it ends their streams. Calls that are unanswered then, and
// all later ones, return ErrHubClosed. It returns ctx's error if it had to end streams.
// Every goroutine of the hub has ended when it returns; for that, Receive of a stream
// has to return soon after its Attach.
func (h *Hub) Close(ctx context.Context) error {
	h.mu.Lock()
	first := !h.closing
	h.closing = true
	participants := make([]*attached, 0, len(h.participants))
	for _, p := range h.participants {
		participants = append(participants, p)
	}
	if first && h.streams == 0 {
		close(h.quiet)
	}
	h.mu.Unlock()
	for _, p := range participants {
		p.announceClosing()
	}
	var err error
	select {
	case <-h.quiet:
	case <-ctx.Done():
		err = fmt.Errorf("close hub: instances did not leave: %w", context.Cause(ctx))
	}
	for _, p := range participants {
		p.close()
	}
	h.attaching.Wait()
	return err
}

// ending is why a stream ends, or does not begin, when the hub closes.
func ending() error {
	return connect.NewError(connect.CodeUnavailable, "the server ends: attach to another one, or later")
}

// enter counts a stream in.
func (h *Hub) enter() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closing {
		return ending()
	}
	if h.streams >= h.cfg.MaxStreams {
		return connect.Errorf(connect.CodeResourceExhausted, "%d streams are attached, which is the limit", h.streams)
	}
	h.streams++
	h.attaching.Add(1) // for the goroutine that receives
	return nil
}

func (h *Hub) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams--; h.closing && h.streams == 0 {
		close(h.quiet)
	}
}
