package orders

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers/natsserver"
)

func TestMain(m *testing.M) {
	natsserver.Main()
	goleak.VerifyTestMain(closing{m})
}

// closing closes the servers before goroutines are counted.
type closing struct{ *testing.M }

func (c closing) Run() int {
	code := c.M.Run()
	if shared.site == nil {
		return code
	}
	if err := shared.site.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var shared struct {
	once sync.Once
	site *site
	err  error
}

// theSite returns servers, which the first test that needs them starts.
func theSite(t *testing.T) *site {
	t.Helper()
	capability.Need(t, capability.Postgres, capability.MariaDB)
	shared.once.Do(func() { shared.site, shared.err = openSite(context.Background(), Addresses{}) })
	require.NoError(t, shared.err)
	return shared.site
}
