package syscalltest

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// event is a system call's beginning or its return. The order of events is that in
// which strace saw them.
type event struct {
	line     int // of the trace, for people
	returned bool
	call     string
	target   string // what the file descriptor is: a path, or TCP:[…]
	data     []byte // of a write
	offset   int64  // of a pwrite64
	failed   bool   // only known when returned
}

var (
	// 4711  write(9<TCP:[…]>, "…", 10) = 10, or … <unfinished ...>
	callLine = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	// 4711  <... write resumed>) = 10
	resumedLine = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	descriptor  = regexp.MustCompile(`^(?:AT_FDCWD|-?\d+)(?:<(.*?)>)?(?:, |\)| <unfinished|$)`)
	quoted      = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?`)
	result      = regexp.MustCompile(`\) += (-?\d+)(?: |$)`)
	lastNumber  = regexp.MustCompile(`, (\d+)(?:\) += .*| <unfinished \.\.\.>)$`)
)

// events reads what strace -f -yy -xx wrote. A line that it does not understand is
// an error: what is not read proves nothing.
func events(trace io.Reader) (all []event, err error) {
	pending := make(map[string]event) // by thread
	lines := bufio.NewReaderSize(trace, 1<<20)
	for number := 1; ; number++ {
		line, readErr := lines.ReadString('\n')
		line = strings.TrimSuffix(line, "\n")
		if line != "" {
			switch m, r := callLine.FindStringSubmatch(line), resumedLine.FindStringSubmatch(line); {
			case m != nil:
				e, err := parseCall(m[2], m[3])
				if err != nil {
					return nil, fmt.Errorf("line %d: %w", number, err)
				}
				e.line = number
				all = append(all, e)
				if strings.HasSuffix(line, "<unfinished ...>") {
					pending[m[1]] = e
					continue
				}
				if all, err = returns(all, e, line); err != nil {
					return nil, fmt.Errorf("line %d: %w", number, err)
				}
			case r != nil:
				e, known := pending[r[1]]
				if !known || e.call != r[2] {
					return nil, fmt.Errorf("line %d: %s was not under way", number, r[2])
				}
				delete(pending, r[1])
				e.line = number
				if all, err = returns(all, e, r[3]); err != nil {
					return nil, fmt.Errorf("line %d: %w", number, err)
				}
			default:
				return nil, fmt.Errorf("line %d: %.200q is no system call", number, line)
			}
		}
		if readErr == io.EOF {
			return all, nil
		}
		if readErr != nil {
			return nil, readErr
		}
	}
}

func parseCall(call, arguments string) (e event, err error) {
	e.call = call
	d := descriptor.FindStringSubmatch(arguments)
	if d == nil {
		return e, fmt.Errorf("%s of no file descriptor: %.200q", call, arguments)
	}
	e.target = d[1]
	if strings.HasPrefix(e.target, `\x`) {
		path, err := unquote(e.target)
		if err != nil {
			return e, err
		}
		e.target = string(path)
	}
	if q := quoted.FindStringSubmatch(arguments); q != nil {
		if q[2] != "" {
			return e, fmt.Errorf("the data of %s is cut off", call)
		}
		if e.data, err = unquote(q[1]); err != nil {
			return e, err
		}
	}
	if call == "pwrite64" {
		m := lastNumber.FindStringSubmatch(arguments)
		if m == nil {
			return e, fmt.Errorf("pwrite64 without an offset: %.200q", arguments)
		}
		e.offset, err = strconv.ParseInt(m[1], 10, 64)
	}
	return e, err
}

// unquote reads \x2f\x74.
func unquote(s string) ([]byte, error) {
	b := make([]byte, 0, len(s)/4)
	for ; len(s) >= 4; s = s[4:] {
		n, err := strconv.ParseUint(s[2:4], 16, 8)
		if err != nil {
			return nil, err
		}
		b = append(b, byte(n))
	}
	return b, nil
}

// returns adds that the call returned with what the text ends in.
func returns(all []event, e event, text string) ([]event, error) {
	m := result.FindStringSubmatch(text)
	if m == nil {
		return nil, fmt.Errorf("%s without a result", e.call)
	}
	n, err := strconv.Atoi(m[1])
	e.returned = true
	// A write that is cut short has not written what it was given.
	e.failed = n < 0 || e.call == "pwrite64" && n != len(e.data)
	return append(all, e), err
}
