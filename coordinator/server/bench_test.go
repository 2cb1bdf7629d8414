package server_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// The benchmarks have caller and server in one process, and a log in memory: they are
// for profiles of the server's share, not for figures.

const submitted = `{"enlistments":[{"participant":"bank_a","text":"-30"},{"participant":"bank_b","text":"+30"}]}`

func BenchmarkSubmitOverJSON(b *testing.B) {
	s := newSite(b)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer client.CloseIdleConnections()
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			response, err := client.Post(s.url+"/assent.v1.TransactionService/Submit", "application/json", bytes.NewBufferString(submitted))
			if err != nil || response.StatusCode != http.StatusOK {
				b.Errorf("submit: %v %v", response, err)
				return
			}
			_, _ = io.Copy(io.Discard, response.Body)
			_ = response.Body.Close()
		}
	})
}

func BenchmarkSubmitOverGRPC(b *testing.B) {
	s := newSite(b)
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.client.Submit(context.Background(), &assentv1.SubmitRequest{Enlistments: both()}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkSession(b *testing.B) {
	s := newSite(b)
	session, err := s.client.Session(b.Context())
	require.NoError(b, err)
	b.ReportAllocs()
	const window = 256
	room := make(chan struct{}, window)
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for left.Load() > 0 {
			message, err := session.Receive()
			if err != nil {
				b.Error(err)
				return
			}
			for range message.GetAnswers() {
				<-room
			}
			left.Add(-int64(len(message.GetAnswers())))
		}
	}()
	for sent := 0; sent < b.N; {
		room <- struct{}{}
		message := &assentv1.SessionRequest{}
	gather:
		for {
			message.Requests = append(message.Requests, &assentv1.Request{Request: &assentv1.Request_Submit{Submit: &assentv1.SubmitRequest{Enlistments: both()}}})
			if sent++; sent == b.N {
				break
			}
			select {
			case room <- struct{}{}:
			default:
				break gather
			}
		}
		require.NoError(b, session.Send(message))
	}
	require.NoError(b, session.CloseSend())
	<-done
}
