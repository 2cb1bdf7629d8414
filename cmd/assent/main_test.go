package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// asProgram makes the test binary the program, so that tests run it as a user
// does, and it can start itself as a child.
const asProgram = "ASSENT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	testscript.Main(withoutLeaks{m}, map[string]func(){"assent": main})
}

// withoutLeaks looks for goroutines before testscript ends the process.
type withoutLeaks struct{ *testing.M }

func (w withoutLeaks) Run() (code int) {
	goleak.VerifyTestMain(closing(w), goleak.Cleanup(func(exitCode int) { code = exitCode }))
	return code
}

// closing closes the servers before goroutines are counted.
type closing struct{ *testing.M }

func (c closing) Run() int {
	code := c.M.Run()
	if err := started.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
