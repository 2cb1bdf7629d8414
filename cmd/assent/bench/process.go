package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// A measurement of the standalone server is made of three processes: this one is the
// load, the others are this program once more.

// roleEnv is the environment variable that says which of them a process is.
const roleEnv = "ASSENT_BENCH_ROLE"

// order is what a process is asked: a line of JSON on its standard input. It ends with
// that.
type order struct {
	// Services starts the server with a log in Dir and participants that are served at
	// this URL.
	Services string `json:"services,omitempty"`
	Dir      string `json:"dir,omitempty"`
	// Attach lets participants attach to the server at this address.
	Attach string `json:"attach,omitempty"`
}

// report is the answer to each order, a line of JSON on the standard output.
type report struct {
	URL string `json:"url,omitempty"`
	// CPU is the processor time of the process, of user and system.
	CPU         time.Duration `json:"cpu,omitempty"`
	Fdatasyncs  uint64        `json:"fdatasyncs,omitempty"`
	Allocations uint64        `json:"allocations,omitempty"`
	Error       string        `json:"error,omitempty"`
}

// role is what a process does: it carries out an order, and closes what it has opened.
type role interface {
	do(ctx context.Context, o order) (report, error)
	close(ctx context.Context) error
}

// Main does the work of one part of a measurement, and does not return, if this process
// was started for that; it returns at once in any other. The program's main or TestMain
// calls it before anything else.
func Main() {
	var r role
	switch os.Getenv(roleEnv) {
	case "":
		return
	case roleServer:
		r = &serverRole{}
	case roleServices:
		r = &servicesRole{}
	default:
		fmt.Fprintf(os.Stderr, "%s=%s: no such part of a measurement\n", roleEnv, os.Getenv(roleEnv))
		os.Exit(2)
	}
	if err := serveRole(context.Background(), r, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveRole carries out orders until there are no more.
func serveRole(ctx context.Context, r role, orders io.Reader, reports io.Writer) (err error) {
	defer func() { err = errors.Join(err, r.close(ctx)) }()
	answers := json.NewEncoder(reports)
	for decoder := json.NewDecoder(orders); ; {
		var o order
		if err := decoder.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		answer, err := r.do(ctx, o)
		if err != nil {
			answer.Error = err.Error()
		}
		spent := used()
		answer.CPU, answer.Allocations = spent.cpu, spent.allocs
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
}

// process is a part of the measurement in a process of its own.
type process struct {
	role    string
	command *exec.Cmd
	orders  io.WriteCloser
	reports *bufio.Reader
}

// startProcess starts one. It ends when it is closed, or when this process ends.
func startProcess(role string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	p := &process{role: role, command: exec.Command(self)}
	p.command.Env = append(os.Environ(), roleEnv+"="+role)
	p.command.Stderr = os.Stderr
	p.orders, err = p.command.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	reports, err := p.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	p.reports = bufio.NewReader(reports)
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	return p, nil
}

// ask has an order carried out.
func (p *process) ask(ctx context.Context, o order) (r report, err error) {
	if err := ctx.Err(); err != nil {
		return report{}, err
	}
	if err := json.NewEncoder(p.orders).Encode(o); err != nil {
		return report{}, fmt.Errorf("ask the %s: %w", p.role, err)
	}
	line, err := p.reports.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return report{}, fmt.Errorf("the %s: %w", p.role, err)
	}
	return r, nil
}

// close lets the process end, and waits for that. It may be nil.
func (p *process) close() error {
	if p == nil {
		return nil
	}
	_ = p.orders.Close() // it ends then, or has ended
	if err := p.command.Wait(); err != nil {
		return fmt.Errorf("the %s: %w", p.role, err)
	}
	return nil
}
