package more

import (
	"context"
	"fmt"
	"testing"
	"time"
)

const million = 1_000_000

// A context from its creation to its end, alone and with a million others.
func life(b *testing.B) {
	for _, look := range []look{noLook, errOnce, doneOnce} {
		at := look.at
		each(b, "create + cancel + drop"+look.name, func(n int) {
			root, cancel := root()
			defer cancel()
			for i := 0; i < n; i++ {
				ctx, cancel := context.WithCancel(root)
				at(ctx)
				cancel()
			}
		})
		each(b, "with_timeout + cancel + drop"+look.name, func(n int) {
			root, cancel := root()
			defer cancel()
			for i := 0; i < n; i++ {
				ctx, cancel := context.WithTimeout(root, time.Hour)
				at(ctx)
				cancel()
			}
		})
	}
	perOp(b, "done(), first call", 1000, func() time.Duration {
		root, cancel := root()
		defer cancel()
		var fresh [1000]context.Context
		for i := range fresh {
			fresh[i], _ = context.WithCancel(root)
		}
		return timed(func() {
			for _, ctx := range fresh {
				doneSink = ctx.Done()
			}
		})
	})
	for _, goroutines := range []int{1, 2} {
		each(b, fmt.Sprintf("check, open, threads=%d", goroutines), func(n int) {
			ctx, cancel := root()
			defer cancel()
			split(n, goroutines, func(n int) {
				for i := 0; i < n; i++ {
					open(ctx)
				}
			})
		})
	}
	for _, look := range []look{noLook, errOnce} {
		at := look.at
		perOp(b, "cancel a million children"+look.name, million, func() time.Duration {
			root, cancel := root()
			children := make([]context.Context, million)
			for i := range children {
				children[i], _ = context.WithCancel(root)
				at(children[i])
			}
			took := timed(cancel)
			if children[million-1].Err() == nil {
				panic("not done")
			}
			return took
		})
		perOp(b, "cancel a chain of a million"+look.name, million, func() time.Duration {
			ctx, cancel := root()
			for i := 0; i < million; i++ {
				ctx, _ = context.WithCancel(ctx)
				at(ctx)
			}
			took := timed(cancel)
			if ctx.Err() == nil {
				panic("not done")
			}
			return took
		})
		for _, goroutines := range []int{1, 2, 4, 8} {
			name := "create + cancel + drop under one parent, threads=%d%s"
			each(b, fmt.Sprintf(name, goroutines, look.name), func(n int) {
				root, cancel := root()
				defer cancel()
				split(n, goroutines, func(n int) {
					for i := 0; i < n; i++ {
						ctx, cancel := context.WithCancel(root)
						at(ctx)
						cancel()
					}
				})
			})
		}
	}
	for _, live := range []int{40, 4_000, 400_000} {
		b.Run(fmt.Sprintf("WithTimeout/concurrency=%d, err() once", live), func(b *testing.B) {
			derive := func() context.CancelFunc {
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				open(ctx)
				return cancel
			}
			cancels := make([]context.CancelFunc, live)
			for i := range cancels {
				cancels[i] = derive()
			}
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				var ten [10]context.CancelFunc
				for pb.Next() {
					for i := range ten {
						ten[i] = derive()
					}
					for _, cancel := range ten {
						cancel()
					}
				}
			})
			b.StopTimer()
			for _, cancel := range cancels {
				cancel()
			}
		})
	}
	each(b, "after_func + stop", func(n int) {
		ctx, cancel := root()
		defer cancel()
		for i := 0; i < n; i++ {
			if !context.AfterFunc(ctx, func() {})() {
				panic("not stopped")
			}
		}
	})
	each(b, "after_func + cancel + wait until it ran", func(n int) {
		ran := make(chan struct{}, 1)
		for i := 0; i < n; i++ {
			ctx, cancel := root()
			context.AfterFunc(ctx, func() { ran <- struct{}{} })
			cancel()
			<-ran
		}
	})
	b.Run("CommonParentCancel, its loops alone", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			x := 0
			for pb.Next() {
				for i := 0; i < 100; i++ {
					x /= x + 1
				}
				for i := 0; i < 100; i++ {
					x /= x + 1
				}
			}
			escape(x)
		})
	})
}

// So that the compiler cannot leave out what leads to it.
//
//go:noinline
func escape(int) {}
