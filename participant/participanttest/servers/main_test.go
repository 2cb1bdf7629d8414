package servers

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// parentEnv makes the test binary the parent of a server that is killed.
const parentEnv = "ASSENT_TEST_SERVER_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) != "" {
		startAndWait()
	}
	goleak.VerifyTestMain(m)
}

// startAndWait starts a server, tells where it is, and waits to be killed.
func startAndWait() {
	s, err := StartPostgres(context.Background())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.process.pid(), s.Dir())
	select {}
}
