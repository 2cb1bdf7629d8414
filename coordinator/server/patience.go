package server

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// patient serves requests whose peers may be slow, but not for ever: for as long as
// Config.PeerTimeout in all to send a request that is read as a whole, and for each
// write. Streams may be silent for longer: pings tell whether the peer is there.
func (s *Server) patient(next http.Handler, streams map[string]bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &patience{ResponseWriter: w, body: r.Body, limit: s.config.PeerTimeout}
		p.timer = time.AfterFunc(p.limit, p.end)
		defer p.stop()
		switch {
		case streams[r.URL.Path]:
			p.timer.Stop()
			r = r.WithContext(context.WithValue(r.Context(), patienceKey{}, p))
		case r.ContentLength == 0:
			(*patientBody)(p).done()
		default:
			patiently := *r
			patiently.Body = (*patientBody)(p)
			r = &patiently
		}
		next.ServeHTTP(p, r)
	})
}

// patienceKey is where a stream finds its patience.
type patienceKey struct{}

// patience is a response, and the body of its request, with one timer for what is
// waited for now. A server's deadlines are for connections, and in HTTP/2 each takes
// a message to the connection's goroutine: here that is so only when time is up.
type patience struct {
	http.ResponseWriter
	body  io.ReadCloser
	limit time.Duration
	timer *time.Timer
	read  atomic.Bool // the body is

	mu   sync.Mutex
	over bool // the response is: nobody may touch it any more
}

// stop ends what is waited for. A timer, or the server's end, may be about to end it.
func (p *patience) stop() {
	p.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// stopReading ends a wait for the peer to send more; what is to be sent to it still
// is.
func (p *patience) stopReading() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	_ = http.NewResponseController(p.ResponseWriter).SetReadDeadline(time.Now().Add(-time.Second))
}

// end gives the peer up.
func (p *patience) end() {
	if !p.read.Load() {
		p.stopReading()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	_ = http.NewResponseController(p.ResponseWriter).SetWriteDeadline(time.Now().Add(-time.Second))
}

func (p *patience) Write(b []byte) (int, error) {
	p.await()
	defer p.timer.Stop()
	return p.ResponseWriter.Write(b)
}

// Flush is http.Flusher, which connect asks for.
func (p *patience) Flush() {
	p.await()
	defer p.timer.Stop()
	_ = http.NewResponseController(p.ResponseWriter).Flush() // its failure is the next write's
}

func (p *patience) await() {
	p.read.Store(true)
	p.timer.Reset(p.limit)
}

// Unwrap is for http.ResponseController.
func (p *patience) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// patientBody is a patience as the body of its request.
type patientBody patience

func (b *patientBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil { // the end, as a rule
		b.done()
	}
	return n, err
}

func (b *patientBody) Close() error {
	b.done()
	return b.body.Close()
}

func (b *patientBody) done() {
	if !b.read.Swap(true) {
		b.timer.Stop()
	}
}
