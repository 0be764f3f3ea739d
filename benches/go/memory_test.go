package more

import (
	"context"
	"runtime"
	"testing"
	"time"
)

const held = 100_000

type pair struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// memory reports the live bytes of a context with its handles.
func memory(b *testing.B) {
	cancels := func(what string, look look, parent context.Context) {
		bytes(b, what+look.name, func(int) pair {
			ctx, cancel := context.WithCancel(parent)
			look.at(ctx)
			return pair{ctx, cancel}
		})
	}
	for _, look := range looks {
		cancels("cancel", look, context.Background())
		parent, cancel := root()
		cancels("cancel under one parent", look, parent)
		cancel()
		bytes(b, "deadline"+look.name, func(int) pair {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			look.at(ctx)
			return pair{ctx, cancel}
		})
	}
	bytes(b, "value, a number under a number", func(i int) context.Context {
		return context.WithValue(context.Background(), number(1000+i), 1000+i)
	})
	bytes(b, "value, a text under a unit", func(int) context.Context {
		return context.WithValue(context.Background(), unit{}, "value")
	})
}

type unit struct{}

func bytes[T any](b *testing.B, what string, derive func(int) T) {
	b.Run("live bytes, "+what, func(b *testing.B) {
		var all []T
		for i := 0; i < b.N; i++ {
			all = nil
			before := heap()
			all = make([]T, held)
			for i := range all {
				all[i] = derive(i)
			}
			// Go reports size classes only, not the sizes that were requested.
			each := float64(heap()-before) / held
			b.ReportMetric(each, "requested")
			b.ReportMetric(each, "rounded")
		}
		for _, each := range all {
			if each, ok := any(each).(pair); ok {
				each.cancel()
			}
		}
	})
}

// heap returns the bytes in use on the heap.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
