package orders

import (
	"crypto/rand"
	"strings"
)

// run is the name of one run of the demo, under which it keeps all that is its own: a
// run never meets what another one left, and each can be kept.
type run string

func newRun() run { return run(strings.ToLower(rand.Text()[:6])) }

// domain is the coordinator's.
func (r run) domain() string { return "demo-" + string(r) }

// table is one of the run's tables: "stock", "line" or "witness".
func (r run) table(name string) string { return "assent_demo_" + string(r) + "_" + name }

func (r run) tables() []string {
	return []string{r.table("stock"), r.table("line"), r.table("witness")}
}

// stream is the run's stream of messages, subject where they are published, and
// markers where the participant keeps its own in it. What is prepared is in staging.
func (r run) stream() string  { return "assent-demo-" + string(r) }
func (r run) subject() string { return r.stream() + ".orders" }
func (r run) markers() string { return r.stream() + ".assent" }
func (r run) staging() string { return r.stream() + "-staging" }
