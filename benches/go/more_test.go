// Package more measures what Go's own benchmarks of context do not. Each benchmark has the name of its
// row in the table, and does in each operation what the Rust one does.
package more

import (
	"context"
	"sync"
	"testing"
	"time"
)

func BenchmarkMore(b *testing.B) {
	life(b)
	values(b)
	selects(b)
	waking(b)
	memory(b)
	afterFuncs(b)
	unrelated(b)
	cpu(b)
}

// A look is what a context is asked while it lives.
type look struct {
	name string
	at   func(context.Context)
}

var (
	noLook   = look{"", func(context.Context) {}}
	errOnce  = look{", err() once", func(ctx context.Context) { open(ctx) }}
	doneOnce = look{", done() once", func(ctx context.Context) { doneSink = ctx.Done() }}
)

var looks = []look{noLook, errOnce, doneOnce}

// doneSink keeps the compiler from removing calls of Done.
var doneSink <-chan struct{}

func open(ctx context.Context) {
	if ctx.Err() != nil {
		panic("done")
	}
}

// root returns a parent that is not done.
func root() (context.Context, context.CancelFunc) {
	return context.WithCancel(context.Background())
}

// each runs f b.N times.
func each(b *testing.B, name string, f func(n int)) {
	b.Run(name, func(b *testing.B) { f(b.N) })
}

// perOp reports the time of an operation; f returns the time of so many.
func perOp(b *testing.B, name string, operations int, f func() time.Duration) {
	b.Run(name, func(b *testing.B) {
		var took time.Duration
		for i := 0; i < b.N; i++ {
			took += f()
		}
		b.ReportMetric(float64(took.Nanoseconds())/float64(b.N)/float64(operations), "ns/op")
	})
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// split shares n operations out among so many goroutines.
func split(n, goroutines int, work func(n int)) {
	var all sync.WaitGroup
	for i := 0; i < goroutines; i++ {
		part := n / goroutines
		if i < n%goroutines {
			part++
		}
		all.Add(1)
		go func() {
			defer all.Done()
			work(part)
		}()
	}
	all.Wait()
}
