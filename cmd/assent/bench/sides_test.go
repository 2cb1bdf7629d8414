package bench

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// One operation is one transaction; compare with BenchmarkPlain.
func BenchmarkTransaction(b *testing.B) {
	for _, clients := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("c%d", clients), func(b *testing.B) {
			a, err := openAssent(b.Context(), b.TempDir())
			require.NoError(b, err)
			defer func() { require.NoError(b, a.close(b.Context())) }()
			b.ReportAllocs()
			b.ResetTimer()
			var done atomic.Int64
			var wg sync.WaitGroup
			for range clients {
				wg.Go(func() {
					for done.Add(1) <= int64(b.N) {
						if err := a.transaction(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
		})
	}
}

// One operation is the five records of a transaction, one db.Update each.
func BenchmarkPlain(b *testing.B) {
	p, err := openPlain(b.TempDir())
	require.NoError(b, err)
	defer func() { require.NoError(b, p.close()) }()
	for b.Loop() {
		require.NoError(b, p.transaction(b.Context()))
	}
}
