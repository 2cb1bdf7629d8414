package client_test

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"github.com/stretchr/testify/require"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/coordinator/client"
)

// Streams that are attached and idle leave nothing behind when they end.
func TestIdleStreamsLeaveNoMemoryBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("opens 10,000 streams")
	}
	const streams = 10_000
	s := newSite(t)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	attachments := assentv1connect.NewAttachmentServiceClient(connect.NewClient(
		connecthttp.NewTransport(&http.Client{Transport: transport}, s.line.url(), connecthttp.WithGRPC(), connecthttp.WithCompressors())))
	attach := func(n int) {
		conns := make([]assentv1connect.AttachmentServiceAttachClientStream, n)
		next := make(chan int)
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for i := range next {
					conn, err := attachments.Attach(t.Context())
					if err == nil {
						conns[i] = conn
						err = conn.Send(&assentv1.AttachRequest{Message: &assentv1.AttachRequest_Hello{
							Hello: &assentv1.Hello{Participant: attachedName, Instance: fmt.Sprintf("idle-%d", i)},
						}})
					}
					if err == nil {
						_, err = conn.Receive()
					}
					if err != nil {
						t.Errorf("attach %d: %v", i, err)
					}
				}
			})
		}
		for i := range n {
			next <- i
		}
		close(next)
		all.Wait()
		require.Len(t, s.hub.Instances(attachedName), n)
		for _, conn := range conns {
			require.NoError(t, conn.CloseSend())
			require.NoError(t, conn.Close())
		}
		require.Eventually(t, func() bool { return len(s.hub.Instances(attachedName)) == 0 }, long, tick)
		transport.CloseIdleConnections()
	}
	goroutines(8 * streams)
	attach(100)
	before := memory()
	attach(streams)
	left := int64(memory()) - int64(before)
	t.Logf("%d bytes are left of %d streams", left, streams)
	require.Less(t, left, int64(streams<<10), "less than a KiB of each, which takes some 30 while it is attached")

	c, _ := serve(t, s, &bank{name: attachedName})
	require.NoError(t, c.Enlist(t.Context(), begin(t, c), client.Participant(attachedName)), "it still works")
}

// memory returns the bytes in use, once what can be freed is.
func memory() uint64 {
	var m runtime.MemStats
	for range 3 {
		runtime.GC()
		runtime.ReadMemStats(&m)
	}
	return m.HeapAlloc + m.StackInuse
}

// goroutines has so many at a time: the runtime keeps what they were made of for the next.
func goroutines(n int) {
	var all sync.WaitGroup
	end := make(chan struct{})
	for range n {
		all.Go(func() { <-end })
	}
	close(end)
	all.Wait()
}
