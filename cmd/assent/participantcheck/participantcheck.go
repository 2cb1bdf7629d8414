// Package participantcheck asks a running service, in whatever language it is written,
// whether it keeps the contract of a participant: by the cases of participanttest, and by
// calls that no coordinator makes.
package participantcheck

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

// ErrUnreachable is the error of a service that is not there, or does not answer.
var ErrUnreachable = errors.New("the service can't be reached")

const (
	// callTime is how long a coordinator waits for an answer unless it is configured otherwise.
	callTime = coordinator.DefaultCallTimeout
	// caseTime bounds a case of this package, as participanttest bounds its own.
	caseTime = time.Minute
	// domain is that of the branches. No installation has it: theirs are shorter words.
	domain = "assent-check"
)

// Config is what is known of the service. URL and Name are required.
type Config struct {
	// URL and what follows is as in [remote.HTTPConfig].
	URL, Name     string
	Secrets       []remote.Secret
	TLS           *tls.Config
	AllowPrefixes []netip.Prefix
	AllowInsecure bool
	Lists         bool
	Forgets       bool
	// GRPC says that the service is one over gRPC.
	GRPC bool
	// KeepsEpoch says that it keeps the highest epoch of a term.
	KeepsEpoch bool
	// Data is the payload of a branch that it prepares. {n} becomes the branch's number
	// in this run, {uuid} a UUID, {xid} its XID.
	Data string
	// RefuseData is the payload of a branch that it has to refuse; nil if there is none.
	RefuseData *string
	// VisibleURL answers 200 if a branch's effects are visible, 404 if not; any other answer
	// fails the case. Empty: nobody looks.
	VisibleURL string
	// Restart is given to sh, to kill the service and start it again. Empty: it is not
	// killed. What it prints goes to Output.
	Restart string
	Output  *os.File
	// Within is how soon a call should be answered.
	Within time.Duration
	// Cases are the names of those to run. Empty: all.
	Cases []string
}

// Outcome is what became of a case.
type Outcome string

// The outcomes.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
	// Partly: the answers were right, and nobody looked at the effects.
	Partly Outcome = "partly"
	NotRun Outcome = "not run"
)

// Result is what became of a case, and why.
type Result struct {
	Case
	Outcome Outcome
	// Why is what was wrong, or what was lacking.
	Why string
}

// Case is something the service is asked.
type Case struct {
	Name, Rule string
	// Fix says how services mend it as a rule.
	Fix string
	run func(context.Context, *site) error
}

// Cases returns all of them, in the order in which they run and are best mended.
func Cases() []Case {
	cases := slices.Clone(firstCases)
	for _, c := range participanttest.Cases() {
		if !overTheWire(c.Name) {
			continue
		}
		cases = append(cases, Case{c.Name, c.Rule, fixes[c.Name], func(ctx context.Context, s *site) error { return c.Run(ctx, s.subject()) }})
	}
	return append(cases, wireCases...)
}

// overTheWire reports whether a case of participanttest can be asked of a service in
// another process: one that this program calls has no process of the participant to kill,
// no one-phase commit and no Check, and its name is configured here.
func overTheWire(name string) bool {
	switch name {
	case "name", "check", "processes-overlap":
		return false
	}
	return !strings.HasPrefix(name, "one-phase") && !strings.HasSuffix(name, "-kill")
}

// chosen returns the cases to run.
func (c *Config) chosen() ([]Case, error) {
	all := Cases()
	if len(c.Cases) == 0 {
		return all, nil
	}
	var cases []Case
	for _, name := range c.Cases {
		if !slices.ContainsFunc(all, func(one Case) bool { return one.Name == name }) {
			return nil, fmt.Errorf("there is no case %q: --list shows them", name)
		}
	}
	for _, one := range all {
		if slices.Contains(c.Cases, one.Name) {
			cases = append(cases, one)
		}
	}
	return cases, nil
}

// Check is a service to be asked, and how.
type Check struct {
	site  *site
	cases []Case
}

// New connects to nothing yet. An error says what is wrong with cfg.
func New(cfg Config) (*Check, error) {
	cases, err := cfg.chosen()
	if err != nil {
		return nil, err
	}
	s, err := newSite(cfg)
	if err != nil {
		return nil, err
	}
	return &Check{s, cases}, nil
}

// Len is the number of cases to run.
func (c *Check) Len() int { return len(c.cases) }

// Run runs the cases one after the other, tells progress of each, and returns all results.
// Branches that it prepared are rolled back; effects that it committed stay. An error Is
// ErrUnreachable, or ctx's: the results are then those of the cases that ran.
func (c *Check) Run(ctx context.Context, progress func(Result)) ([]Result, error) {
	defer c.site.close()
	if err := c.site.reach(ctx); err != nil {
		return nil, err
	}
	var results []Result
	blocked := ""
	for _, one := range c.cases {
		result := Result{Case: one, Outcome: NotRun, Why: blocked}
		if blocked == "" {
			err := one.run(ctx, c.site)
			if ctx.Err() != nil {
				return results, ctx.Err()
			}
			if result = judged(one, err); result.Outcome == Failed && one.gates() && !errors.Is(err, errSlow) {
				blocked = "mend " + one.Name + " first"
			}
		}
		results = append(results, result)
		progress(result)
		if result.Outcome != Failed {
			continue
		}
		if err := c.site.reach(ctx); err != nil {
			return results, err
		}
	}
	return results, nil
}

// errSlow is the error of a call that was answered, though late.
var errSlow = errors.New("slow")

// gates reports whether the other cases would fail, or take for ever, if this one did.
func (c Case) gates() bool {
	return slices.ContainsFunc(firstCases, func(f Case) bool { return f.Name == c.Name })
}

// lacks says by which flag the service's owner makes a case applicable.
var lacks = map[string]string{
	"no Refuse": "no --refuse-data", "no Restart": "no --restart-cmd: nothing is killed", "no Lister": "no --lists", "no Forgetter": "no --forgets",
	"no epochs are kept": "no --keeps-epoch", "no Explainer": "the service has no call explain, or no --lists",
	"no memory of terms": "the service does not tell the highest transactions",
}

func judged(one Case, err error) Result {
	switch {
	case err == nil:
		return Result{one, Passed, ""}
	case errors.Is(err, participanttest.ErrUnseen):
		return Result{one, Partly, "effects not looked at: no --visible-url"}
	case errors.Is(err, participanttest.ErrNotApplicable):
		_, why, _ := strings.Cut(err.Error(), ": ")
		if flag, ok := lacks[why]; ok {
			why = flag
		}
		return Result{one, NotRun, why}
	default:
		return Result{one, Failed, err.Error()}
	}
}

// reach returns an ErrUnreachable unless something answers there.
func (s *site) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	p, err := s.open()
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	b := s.branch()
	err = p.Rollback(ctx, b)
	var network *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer from %s within %s", ErrUnreachable, s.URL, s.patience)
	case errors.As(err, &network) && network.Op == "dial":
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	default:
		return ctx.Err() // an answer, be it right or wrong
	}
}

// rolledBack reports whether an answer to Rollback acknowledges it (R7).
func rolledBack(err error) bool { return err == nil || errors.Is(err, participant.ErrUnknownBranch) }
