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
	for _, look := range looks {
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
		aMillion(b, look)
		underOneParent(b, look)
	}
	questions(b)
	timeouts(b)
	afterFunc(b)
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

// questions asks contexts that live on.
func questions(b *testing.B) {
	perOp(b, "done(), first call", 1000, func() time.Duration {
		root, cancel := root()
		defer cancel()
		fresh := children(root, 1000, noLook)
		return timed(func() {
			for _, child := range fresh {
				doneSink = child.ctx.Done()
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
}

func aMillion(b *testing.B, look look) {
	perOp(b, "cancel a million children"+look.name, million, func() time.Duration {
		root, cancel := root()
		children := children(root, million, look)
		took := timed(cancel)
		if children[million-1].ctx.Err() == nil {
			panic("not done")
		}
		return took
	})
	name := "cancel a million children" + look.name + ", and err() of each afterwards"
	perOp(b, name, million, func() time.Duration {
		root, cancel := root()
		children := children(root, million, look)
		return timed(func() {
			cancel()
			for _, child := range children {
				if child.ctx.Err() == nil {
					panic("not done")
				}
			}
		})
	})
	perOp(b, "cancel a chain of a million"+look.name, million, func() time.Duration {
		ctx, cancel := root()
		for i := 0; i < million; i++ {
			ctx, cancelSink = context.WithCancel(ctx)
			look.at(ctx)
		}
		took := timed(cancel)
		if ctx.Err() == nil {
			panic("not done")
		}
		return took
	})
}

func underOneParent(b *testing.B, look look) {
	for _, goroutines := range []int{1, 2, 4, 8} {
		name := "create + cancel + drop under one parent, threads=%d%s"
		each(b, fmt.Sprintf(name, goroutines, look.name), func(n int) {
			root, cancel := root()
			defer cancel()
			split(n, goroutines, func(n int) {
				for i := 0; i < n; i++ {
					ctx, cancel := context.WithCancel(root)
					look.at(ctx)
					cancel()
				}
			})
		})
	}
}

// children returns that many, of which each has been asked.
func children(parent context.Context, n int, look look) []pair {
	children := make([]pair, n)
	for i := range children {
		ctx, cancel := context.WithCancel(parent)
		look.at(ctx)
		children[i] = pair{ctx, cancel}
	}
	return children
}

// timeouts is Go's WithTimeout where each context is asked.
func timeouts(b *testing.B) {
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
}

func afterFunc(b *testing.B) {
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
}

// cancelSink receives cancel functions that no benchmark calls, because a parent is cancelled.
var cancelSink context.CancelFunc

// escape keeps the compiler from removing what computes its argument.
//
//go:noinline
func escape(int) {}
