package model_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if searched.states > 0 {
			fmt.Printf("figures: %d states of the protocol hold; with broken rules and cycles spin took %v of processor time\n", searched.states, searched.used.Round(time.Second))
		}
		os.Exit(code)
	}))
}
