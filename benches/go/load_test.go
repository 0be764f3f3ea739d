package more

import (
	"context"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	shortFuncs   = 10_000
	waitingFuncs = 1_000
	deadlines    = 50_000
	waiters      = 10_000
	manyChildren = 500_000
)

// afterFuncs measures thousands of functions that one cancel starts.
func afterFuncs(b *testing.B) {
	b.Run("10,000 short after-funcs", func(b *testing.B) {
		var returned, ran []float64
		for i := 0; i < b.N*5; i++ {
			first, last := cancelParentOf(shortFuncs, func() {})
			returned = append(returned, float64(first.Nanoseconds()))
			ran = append(ran, float64(last.Nanoseconds()))
		}
		b.ReportMetric(quantile(returned, 0.5), "cancel()_returns")
		b.ReportMetric(quantile(ran, 0.5), "all_have_run")
		b.ReportMetric(float64(pprof.Lookup("threadcreate").Count()), "threads")
	})
	b.Run("1,000 after-funcs that wait for each other", func(b *testing.B) {
		var ran []float64
		for i := 0; i < b.N; i++ {
			var barrier sync.WaitGroup
			barrier.Add(waitingFuncs)
			_, last := cancelParentOf(waitingFuncs, func() {
				barrier.Done()
				barrier.Wait()
			})
			ran = append(ran, float64(last.Nanoseconds()))
		}
		b.ReportMetric(quantile(ran, 0.5), "all_have_run")
	})
}

// cancelParentOf cancels a parent of n children with a function each; it returns when cancel has
// returned and when all functions have run.
func cancelParentOf(n int, f func()) (returned, ran time.Duration) {
	parent, cancel := root()
	var left atomic.Int64
	left.Store(int64(n))
	finished := make(chan struct{}, 1)
	children := children(parent, n, noLook)
	for _, child := range children {
		context.AfterFunc(child.ctx, func() {
			f()
			if left.Add(-1) == 0 {
				finished <- struct{}{}
			}
		})
	}
	start := time.Now()
	cancel()
	returned = time.Since(start)
	<-finished
	ran = time.Since(start)
	for _, child := range children {
		child.cancel()
	}
	return returned, ran
}

// unrelated measures how late a deadline is that falls due 1 ms after a large event.
func unrelated(b *testing.B) {
	after := func(what string, prepare func(at time.Time) any) {
		b.Run("unrelated deadline after "+what, func(b *testing.B) {
			var late []float64
			for i := 0; i < b.N; i++ {
				late = append(late, float64(latenessAfter(prepare).Nanoseconds()))
			}
			b.ReportMetric(quantile(late, 0.5), "ns/op")
		})
	}
	after("50,000 with an after-func each", func(at time.Time) any {
		all := make([]pair, deadlines)
		for i := range all {
			ctx, cancel := context.WithDeadline(context.Background(), at)
			context.AfterFunc(ctx, func() {})
			all[i] = pair{ctx, cancel}
		}
		return all
	})
	after("one that 10,000 threads wait for", func(at time.Time) any {
		ctx, cancel := context.WithDeadline(context.Background(), at)
		var ready sync.WaitGroup
		ready.Add(waiters)
		for i := 0; i < waiters; i++ {
			go func() {
				ready.Done()
				<-ctx.Done()
			}()
		}
		ready.Wait()
		return pair{ctx, cancel}
	})
	after("one with 100,000 children", func(at time.Time) any {
		ctx, cancel := context.WithDeadline(context.Background(), at)
		cancelSink = cancel
		return children(ctx, 100_000, doneOnce)
	})
	after("one that meets a long cancel", func(at time.Time) any {
		ctx, cancel := context.WithDeadline(context.Background(), at)
		cancelSink = cancel
		below, cancelBelow := context.WithCancel(ctx)
		all := children(below, manyChildren, doneOnce)
		time.AfterFunc(time.Until(at.Add(-2*time.Millisecond)), cancelBelow)
		return all
	})
}

func latenessAfter(prepare func(at time.Time) any) time.Duration {
	for lead := 500 * time.Millisecond; ; lead *= 2 {
		at := time.Now().Add(lead)
		prepareSink = prepare(at)
		if time.Until(at) > 50*time.Millisecond {
			due := at.Add(time.Millisecond)
			ctx, cancel := context.WithDeadline(context.Background(), due)
			defer cancel()
			<-ctx.Done()
			return time.Since(due)
		}
	}
}

// prepareSink keeps alive what a measurement has prepared.
var prepareSink any
